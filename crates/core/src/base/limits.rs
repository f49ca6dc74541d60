//! Limits that are part of the protocol. What a user may tune stands in the configuration of its part.

/// Bytes of a name or kind.
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of the arguments of a process; they live in its record.
pub const ARGS_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an error or panic text that travels.
pub const TEXT_BYTES_MAX: usize = 1024;
/// Bytes of one frame on a link.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of records in one control message that fills a copy.
pub const FILL_BYTES_MAX: usize = 256 * 1024;
/// Views of the chain that a member keeps.
pub const CHAIN_VIEWS_MAX: usize = 64;
/// Members of a view.
pub const MEMBERS_MAX: usize = 256;
/// Tombstones of a slot before the oldest are summed up in its watermark.
pub const TOMBSTONES_MAX: usize = 10_000;
/// Requests that wait at an owner for one slot to open or one name to start.
pub const SLOT_WAITERS_MAX: usize = 4_096;
/// Requests of one node that wait for an answer.
pub const REQUESTS_MAX: usize = 65_536;
/// Bytes of arguments of these.
pub const REQUESTS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Messages that one route keeps: not yet sent, or not yet confirmed by the gate.
pub const ROUTE_MESSAGES_MAX: usize = 16_384;
/// Bytes of messages that one route keeps; the message that reaches it may go beyond.
pub const ROUTE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Default limit of a mailbox, in messages.
pub const MAILBOX_MESSAGES_MAX: usize = 16_384;
/// Default limit of a mailbox, in bytes of messages; the message that reaches it may go beyond.
pub const MAILBOX_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Default limit of a node, in bytes of messages that it keeps for processes on other nodes.
pub const LEAVING_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Default limit of a node, in bytes of messages of other nodes in all its mailboxes.
pub const ARRIVED_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Sessions of one node, visitors among them.
pub const SESSIONS_MAX: usize = 1_024;
/// Frames that a link keeps until the peer has acknowledged them, per lane.
pub const LINK_FRAMES_MAX: usize = 65_536;
/// Bytes of messages that a link queues or keeps until the peer has acknowledged them.
pub const LINK_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of control messages and signals that a link holds beside those of messages. Copies of records go in parts, so
/// this is many.
pub const LINK_CONTROL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Names that one answer of a listing carries.
pub const LIST_NAMES_MAX: usize = 10_000;
