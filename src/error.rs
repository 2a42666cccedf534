//! Every error the proxy makes itself: one list, from which client bytes, the error metric's label
//! and the README table come. Must never carry a key or a value.

use crate::backend::call::CallError;

/// Whether the request behind an error may have had an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executed {
    /// It had none.
    No,
    /// Nobody knows.
    Maybe,
    /// Some keys yes, some no.
    Partly,
}

macro_rules! proxy_errors {
    ($($name:ident, $kind:literal, $executed:ident, $text:literal, $when:literal;)*) => {
        /// An error made by the proxy, as the client sees it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ProxyError { $(#[doc = $when] $name,)* }

        impl ProxyError {
            /// All of them, in the order of the README table.
            pub const ALL: &'static [ProxyError] = &[$(ProxyError::$name,)*];

            /// Label of `slotway_errors_total{kind}`.
            pub fn kind(self) -> &'static str {
                match self { $(ProxyError::$name => $kind,)* }
            }

            /// Text after the `-`, without line end.
            pub fn text(self) -> &'static str {
                match self { $(ProxyError::$name => $text,)* }
            }

            /// When a client sees it.
            pub fn when(self) -> &'static str {
                match self { $(ProxyError::$name => $when,)* }
            }

            /// Whether the request may have been executed.
            pub fn executed(self) -> Executed {
                match self { $(ProxyError::$name => Executed::$executed,)* }
            }
        }
    };
}

proxy_errors! {
    CrossSlot, "cross_slot", No, "CROSSSLOT Keys in request don't hash to the same slot",
        "A command that cannot be split has keys in several slots, or `multi-key-split` is off.";
    ClusterDown, "cluster_down", No, "CLUSTERDOWN slotway: no reachable node owns the slot",
        "The slot had no reachable owner for `owner-wait`, or has had none for longer than that.";
    NoReplica, "no_replica", No, "NOREPLICAS slotway: no replica of the slot can be read from (read-from = replica-only)",
        "Reads of this connection go to replicas only, and for `owner-wait` or longer all of the slot's have been down, loading, cut off, too far behind (`replica-max-lag`), or there was none.";
    WaitQueueFull, "wait_queue_full", No, "CLUSTERDOWN slotway: too many requests wait for a node that owns their slot",
        "`owner-wait-requests` or `owner-wait-bytes` is used up.";
    DeadlineUnsent, "deadline_unsent", No, "ERR slotway: request deadline passed before the request was sent; it was not executed",
        "`request-deadline` passed while the request waited for a node.";
    DeadlineSent, "deadline_sent", Maybe, "ERR slotway: request deadline passed without a reply; the request may have been executed",
        "`request-deadline` passed after the request was sent.";
    ConnectionLost, "connection_lost", Maybe, "ERR slotway: connection to the node was lost; the request may have been executed",
        "The connection broke after the request was sent, and repeating it could execute it twice.";
    LostUnsent, "lost_unsent", No, "ERR slotway: connection to the node was lost before the request was sent; it was not executed",
        "The connection broke under a command that concerns several nodes, before it was sent to this one.";
    PartlyFailed, "partly_failed", Partly, "ERR slotway: a part of the command failed; it may have been executed partly",
        "A part of a split write failed by a lost connection or a deadline.";
    RedirectLimit, "redirect_limit", No, "CLUSTERDOWN slotway: the nodes keep redirecting this request",
        "A request was redirected more often than `redirects-max` allows.";
    OrderConflict, "order_conflict", No, "TRYAGAIN slotway: a later command on the same key was executed first; this one was not executed",
        "A redirected request would have taken effect after a later one of the same connection on the same key.";
    NodeQueueFull, "node_queue_full", No, "ERR slotway: too many requests are queued for the node",
        "`node-pending-requests` or `node-pending-bytes` is used up.";
    DedicatedFull, "dedicated_full", No, "ERR slotway: no dedicated connection to the node is free (dedicated-max-per-node)",
        "A request that waits, watches keys or is large needs a connection of its own, and `dedicated-max-per-node` are in use.";
    Unblocked, "unblocked", No, "UNBLOCKED slotway: this instance stops; the wait was ended before anything came",
        "The process stops while a client waits without an end of its own, such as `BLPOP key 0`.";
    MergeTooLarge, "merge_too_large", No, "ERR slotway: the merged reply would exceed merge-reply-bytes",
        "The parts of a split read are larger together than `merge-reply-bytes`.";
    ScanCursor, "scan_cursor", No, "ERR slotway: the node's SCAN cursor is too large to be passed on",
        "More than 2^24 hash buckets in one slot (Redis from 7.4, Valkey from 8), or 2^38 at one node before.";
    BadReply, "bad_reply", Maybe, "ERR slotway: the node sent a reply that does not fit the request",
        "A node's reply was not valid RESP or not of the form the command's parts need.";
    TransactionTooLarge, "transaction_too_large", No, "ERR slotway: the transaction is larger than transaction-bytes or transaction-commands",
        "Between MULTI and EXEC more was queued than `transaction-bytes` or `transaction-commands` allow, or the replies slotway itself would give at EXEC are together larger than `transaction-bytes`.";
    NotInTransaction, "not_in_transaction", No, "ERR slotway: not inside a transaction",
        "A command that no single node can do was sent between MULTI and EXEC; its name and the reason follow, as in the table of them.";
    KeysUnknown, "keys_unknown", No, "ERR slotway: the keys of this command cannot be told, so no shard can be chosen; it was not executed",
        "A command learned from the cluster names no key, or neither its key specifications nor COMMAND GETKEYS at a node tell which arguments are keys, or the request is too large to ask (`dedicated-request-bytes`). Inside a transaction no node is asked.";
    SettingsDiffer, "settings_differ", No, "ERR slotway: the primaries do not have the same value of this setting",
        "CONFIG GET of a setting by its name; its names follow. Where a pattern asks for it, it is left out. CONFIG SET makes it the same everywhere.";
    SubscriptionsFull, "subscriptions_full", No, "ERR slotway: too many subscriptions (client-subscriptions or worker-subscriptions)",
        "A client wants more channels and patterns than `client-subscriptions`, or all of a worker's more than `worker-subscriptions`.";
    TrackingFull, "tracking_full", No, "ERR slotway: too many clients have tracking on (tracking-clients-max)",
        "CLIENT TRACKING ON while `tracking-clients-max` clients have it on.";
    NameTooLong, "name_too_long", No, "ERR slotway: names longer than 4096 bytes are not kept",
        "CLIENT SETNAME, CLIENT SETINFO or HELLO SETNAME with a longer one: names are kept for every client.";
    TooManyNames, "too_many_names", No, "ERR slotway: at most 4096 command names in one request",
        "COMMAND INFO or COMMAND DOCS of more: each name can make a reply a hundred times its size.";
    TooManySettings, "too_many_settings", No, "ERR slotway: at most 512 names and patterns in one CONFIG GET",
        "CONFIG GET of more: each pattern is asked for by itself.";
    NoRandomNumbers, "no_random_numbers", No, "ERR slotway: the operating system gives no random numbers",
        "ACL GENPASS where `/dev/urandom` cannot be read.";
    NoAuth, "no_auth", No, "NOAUTH Authentication required.",
        "A password is configured and the client has not given it.";
    MaxClients, "max_clients", No, "ERR max number of clients reached",
        "`max-clients` connections are open.";
    OutOfMemory, "out_of_memory", No, "OOM slotway: max-memory is reached, no new work is taken",
        "The buffers of all clients and nodes together reached `max-memory`.";
    NoCluster, "no_cluster", No, "CLUSTERDOWN slotway: cluster support is disabled at the server, and a cluster is expected (key upstream)",
        "No table was ever loaded, `owner-wait` passed, and whoever answers at the seeds is no cluster node.";
    NotReady, "not_ready", No, "CLUSTERDOWN slotway: the cluster has not been seen yet",
        "No table was ever loaded and `owner-wait` passed.";
}

impl From<CallError> for ProxyError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unsent => Self::LostUnsent,
            CallError::Lost => Self::ConnectionLost,
            CallError::Late => Self::DeadlineSent,
            CallError::TooLarge => Self::MergeTooLarge,
            CallError::QueueFull => Self::NodeQueueFull,
            CallError::NoNode => Self::ClusterDown,
        }
    }
}
