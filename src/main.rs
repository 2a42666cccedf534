//! slotway
fn main() {}
