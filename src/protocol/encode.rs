//! RESP encoding of the replies the proxy makes itself.
