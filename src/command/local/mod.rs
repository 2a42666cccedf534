//! Replies the proxy gives itself.
