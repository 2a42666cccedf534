//! The values labels can have, where they are ours: one list per label.

macro_rules! label_values {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $label:literal, $when:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $(#[doc = $when] $variant,)* }

        impl $name {
            /// All of them, in the order of their indexes.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The label's text.
            pub fn label(self) -> &'static str {
                match self { $($name::$variant => $label,)* }
            }

            /// Place in `ALL`.
            pub fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label_values! {
    /// What kind of command a request is: label `class` of the duration histograms.
    CommandClass {
        Read = "read", "Reads keys of one slot.";
        Write = "write", "Writes keys of one slot.";
        MultiKey = "multi_key", "Was split over slots and merged.";
        Script = "script", "Runs a script or function.";
        Local = "local", "Answered by the proxy itself.";
        Blocking = "blocking", "Waits at a node, on a connection of its own.";
        Other = "other", "Anything else.";
    }
}

label_values! {
    /// What a node answered instead of executing: label `kind` of `slotway_redirects_total`.
    RedirectKind {
        Moved = "moved", "The slot has another owner.";
        Ask = "ask", "The key may be at the importing node already.";
        TryAgain = "tryagain", "The keys are on both sides of a migration.";
        ClusterDown = "clusterdown", "The node thinks the cluster is down.";
    }
}

label_values! {
    /// Where a read went that could have gone to a replica: label `to` of `slotway_reads_total`.
    ReadRole {
        Replica = "replica", "To a replica.";
        Primary = "primary", "To the primary, as `read-from` wants it.";
        OwnWrite = "primary_own_write", "To the primary: no replica is known yet to have what this connection wrote.";
        Connecting = "primary_connecting", "To the primary, while a replica is being connected to.";
        Unusable = "primary_unusable", "To the primary: no replica is fit.";
        Again = "again", "Once more, after a replica sent it away or its connection broke.";
    }
}

label_values! {
    /// Why a client connection ended: label `reason` of `slotway_client_closed_total`.
    CloseReason {
        Client = "client", "The client closed it.";
        Quit = "quit", "The client said QUIT.";
        Error = "error", "Reading or writing failed.";
        Protocol = "protocol", "The client broke the protocol or a limit of it.";
        Stalled = "stalled", "The client took no bytes for `client-stall-timeout`.";
        Subscriber = "subscriber", "Its unread messages reached `subscriber-pending-bytes`.";
        MaxClients = "max_clients", "`max-clients` was reached when it connected.";
        Memory = "memory", "`max-memory` was reached.";
        Killed = "killed", "CLIENT KILL.";
        Drain = "drain", "This process stops.";
        Internal = "internal", "A fault of ours; the log says which.";
    }
}
