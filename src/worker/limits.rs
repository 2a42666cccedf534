//! The configuration in the worker's own units: microseconds, bytes, counts. Made once at start.

use std::time::Duration;

use super::clock::micros;
use crate::backend::handshake::Credentials;
use crate::config::Config;
use crate::config::value::Upstream;
use crate::protocol::Limits as ProtocolLimits;
use crate::router::slot::KeySlots;

/// What one worker needs of the configuration. Times without a unit in their type are microseconds.
#[derive(Debug)]
pub struct WorkerLimits {
    /// Bounds of one request.
    pub protocol: ProtocolLimits,
    /// The same before AUTH.
    pub protocol_unauthenticated: ProtocolLimits,
    /// `client-pending-requests`.
    pub pending_requests: usize,
    /// `client-pending-bytes`.
    pub pending_bytes: usize,
    /// `request-deadline`.
    pub deadline: u64,
    /// `client-stall-timeout`.
    pub stall: u64,
    /// When a session that became busy is looked at first.
    pub first_check: u64,
    /// `owner-wait`.
    pub owner_wait: u64,
    /// `owner-wait-requests`.
    pub waiting_requests: usize,
    /// `owner-wait-bytes`.
    pub waiting_bytes: u64,
    /// `tryagain-wait`.
    pub tryagain_wait: u64,
    /// `redirects-max`.
    pub redirects: usize,
    /// `node-pending-requests`.
    pub node_requests: usize,
    /// `node-pending-bytes`.
    pub node_bytes: u64,
    /// `dedicated-max-per-node`.
    pub dedicated_connections: usize,
    /// `dedicated-request-bytes`.
    pub dedicated_request: usize,
    /// `merge-reply-bytes`.
    pub merge_reply_bytes: u64,
    /// `tracking-clients-max`.
    pub tracking_clients: usize,
    /// `transaction-bytes`.
    pub transaction_bytes: usize,
    /// `transaction-commands`.
    pub transaction_commands: usize,
    /// `subscriber-pending-bytes`.
    pub subscriber_bytes: usize,
    /// `client-subscriptions`.
    pub client_subscriptions: usize,
    /// `worker-subscriptions`.
    pub worker_subscriptions: usize,
    /// By `upstream`.
    pub key_slots: KeySlots,
    /// `multi-key-split`.
    pub multi_key_split: bool,
    /// `connect-timeout`.
    pub connect_timeout: Duration,
    /// `node-silence-timeout`.
    pub silence: Duration,
    /// Who we are at the nodes.
    pub credentials: Credentials,
    /// `upstream-client-name`.
    pub client_name: String,
}

impl WorkerLimits {
    /// From the validated configuration.
    pub fn new(config: &Config, credentials: Credentials) -> Self {
        let protocol = ProtocolLimits {
            bulk_bytes: config.bulk_bytes_max,
            elements: config.array_elements_max as u64,
            inline_bytes: usize::try_from(config.inline_bytes_max).unwrap_or(usize::MAX),
            request_bytes: config.query_buffer_max.min(u64::from(u32::MAX)),
        };
        let (deadline, stall) = (micros(config.request_deadline), micros(config.client_stall_timeout));
        Self {
            protocol,
            protocol_unauthenticated: protocol.unauthenticated(),
            pending_requests: config.client_pending_requests,
            pending_bytes: usize::try_from(config.client_pending_bytes).unwrap_or(usize::MAX),
            deadline,
            stall,
            first_check: deadline.min(stall),
            owner_wait: micros(config.owner_wait),
            waiting_requests: config.owner_wait_requests,
            waiting_bytes: config.owner_wait_bytes,
            tryagain_wait: micros(config.tryagain_wait),
            redirects: config.redirects_max,
            node_requests: config.node_pending_requests,
            node_bytes: config.node_pending_bytes,
            dedicated_connections: config.dedicated_max_per_node,
            dedicated_request: usize::try_from(config.dedicated_request_bytes).unwrap_or(usize::MAX),
            merge_reply_bytes: config.merge_reply_bytes,
            tracking_clients: config.tracking_clients_max,
            transaction_bytes: usize::try_from(config.transaction_bytes).unwrap_or(usize::MAX),
            transaction_commands: config.transaction_commands,
            subscriber_bytes: usize::try_from(config.subscriber_pending_bytes).unwrap_or(usize::MAX),
            client_subscriptions: config.client_subscriptions,
            worker_subscriptions: config.worker_subscriptions,
            key_slots: match config.upstream {
                Upstream::Cluster => KeySlots::Hashed,
                Upstream::Sentinel | Upstream::Standalone => KeySlots::One,
            },
            multi_key_split: config.multi_key_split,
            connect_timeout: config.connect_timeout,
            silence: config.node_silence_timeout,
            credentials,
            client_name: config.upstream_client_name.clone(),
        }
    }
}
