//! Limits that are part of the protocol. What a user may tune stands in the configuration of its part.

/// Bytes of a name or kind.
pub const NAME_BYTES_MAX: usize = 255;
/// Bytes of an address, `host:port`: a DNS name, a colon and a port, with a little to spare.
pub const ADDRESS_BYTES_MAX: usize = 320;
/// Bytes of the names of all kinds that one node hosts: they stand in every view.
pub const KINDS_BYTES_MAX: usize = 16 * 1024;
/// Bytes of the arguments of a process; they live in its record.
pub const ARGS_BYTES_MAX: usize = 64 * 1024;
/// Bytes of the metadata of a name.
pub const METADATA_BYTES_MAX: usize = 4 * 1024;
/// Bytes of the metadata that a name has in a group.
pub const MEMBERSHIP_BYTES_MAX: usize = 512;
/// Groups that a name is in.
pub const GROUPS_PER_NAME_MAX: usize = 32;
/// Bytes of the snapshot that a process publishes of itself.
pub const SNAPSHOT_BYTES_MAX: usize = 4 * 1024;
/// Monitors of one name, those among them that have yet to hear of an end.
pub const MONITORS_PER_NAME_MAX: usize = 16_384;
/// Ends of one name that somebody has yet to hear of, before no more monitors are taken.
pub const FAREWELLS_MAX: usize = 16;
/// Monitors that one node has set.
pub const MONITORS_MAX: usize = 1_000_000;
/// Bytes of an error or panic text that travels.
pub const TEXT_BYTES_MAX: usize = 1024;
/// Bytes of one frame on a link.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of records in one control message that fills a copy.
pub const FILL_BYTES_MAX: usize = 256 * 1024;
/// Messages about slots and names that go to a member in one control message.
pub const TURN_MESSAGES_MAX: usize = 256;
/// Views of the chain that a member keeps.
pub const CHAIN_VIEWS_MAX: usize = 64;
/// Bytes of a view: with what stands around it, it fits a frame.
pub const VIEW_BYTES_MAX: usize = 768 * 1024;
/// Members of a view.
pub const MEMBERS_MAX: usize = 256;
/// Labels of a node.
pub const LABELS_MAX: usize = 16;
/// Tombstones of a slot before the oldest are summed up in its watermark.
pub const TOMBSTONES_MAX: usize = 10_000;
/// Requests that wait at an owner for one slot to open or one name to start.
pub const SLOT_WAITERS_MAX: usize = 4_096;
/// Requests that wait at an owner, for all its slots.
pub const WAITERS_MAX: usize = 65_536;
/// Bytes of arguments of these.
pub const WAITERS_BYTES_MAX: usize = 64 * 1024 * 1024;
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
/// Names, beside the first, that one frame carries a message for; those beyond get the next frame.
pub const PUBLISH_NAMES_MAX: usize = 4_096;
/// Bytes of messages that a link queues or keeps until the peer has acknowledged them.
pub const LINK_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of control messages and signals that a link holds beside those of messages. Copies of records go in parts, so
/// this is many.
pub const LINK_CONTROL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Names that one answer of a listing carries.
pub const LIST_NAMES_MAX: usize = 10_000;
/// Answers that an owner remembers for late copies of their requests.
pub const ANSWERS_MAX: usize = 1_024;
/// Messages of members that wait for a view that this node has not installed yet.
pub const EARLY_MAX: usize = 8_192;
/// Lives of lost conflicts that an owner has yet to see ended.
pub const LOSERS_MAX: usize = 65_536;
/// Records of a lost line that are kept to be offered.
pub const ORPHANS_MAX: usize = 200_000;
/// Listings of one node at a time; one more is answered as incomplete at once.
pub const LISTINGS_MAX: usize = 256;
/// Peers of other lines that are remembered.
pub const STRANGERS_MAX: usize = 256;
/// Bytes of the image of a process that moves: its state, its mailbox, its timers.
pub const IMAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes of one part of an image.
pub const IMAGE_CHUNK_BYTES: usize = 64 * 1024;
/// Bytes of all images that leave one node, and of all that arrive.
pub const IMAGES_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Names in groups that one index knows.
pub const INDEX_ROWS_MAX: usize = 1_000_000;
/// Rows of an index in one message that tells it.
pub const INDEX_PART_ROWS: usize = 1_024;
/// Bytes of these; the row that reaches it may go beyond.
pub const INDEX_PART_BYTES: usize = 64 * 1024;
/// Such messages that one index has yet to acknowledge.
pub const INDEX_PARTS_AHEAD: usize = 8;
/// Rows of an index in one answer.
pub const INDEX_PAGE_ROWS: usize = 4_096;
/// Bytes of these; the row that reaches it may go beyond.
pub const INDEX_PAGE_BYTES: usize = 128 * 1024;
/// Joins and leaves that wait for the indexes of one owner of names to know them.
pub const ENROLLING_MAX: usize = 65_536;
/// Questions of one node about groups that wait for an answer; one more is answered as incomplete at once.
pub const READINGS_MAX: usize = 4_096;
/// Rows of what one such question finds: members of a group, or groups of a scope.
pub const READING_ROWS_MAX: usize = 100_000;
/// Bytes of what all of them have found.
pub const READINGS_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Processes that leave one node at a time.
pub const MOVES_OUT_MAX: usize = 32;
/// Processes that arrive at one node at a time.
pub const MOVES_IN_MAX: usize = 32;
/// Moves that one owner has under way.
pub const MOVES_OWNED_MAX: usize = 64;
/// Moves from one node, and as many to it, that wait until one of those under way has ended.
pub const MOVES_WAITING_MAX: usize = 1024;
/// Processes that a node may have above five quarters of its share, by its weight, before names leave it for load.
pub const LEVEL_SLACK: u64 = 8;
/// Processes that the report of a drain names.
pub const STAYED_MAX: usize = 1_000;
/// Addresses that are dialled.
pub const ADDRESSES_MAX: usize = 1_024;

/// Limits of one node that may be other than the constants above: the simulator makes them small, so that short runs
/// reach them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests of this node that wait for an answer; default [`REQUESTS_MAX`].
    pub requests: usize,
    /// Requests that wait at an owner for one slot; default [`SLOT_WAITERS_MAX`].
    pub slot_waiters: usize,
    /// Requests that wait at an owner for all its slots; default [`WAITERS_MAX`].
    pub waiters: usize,
    /// Tombstones of one slot; default [`TOMBSTONES_MAX`]. All members must agree.
    pub tombstones: usize,
    /// Bytes of one part of the image of a process on its way; default and most [`IMAGE_CHUNK_BYTES`].
    pub image_chunk: usize,
    /// Processes that a node may have above five quarters of its share before names leave it for load; default
    /// [`LEVEL_SLACK`].
    pub level_slack: u64,
    /// Names in groups that one index knows; default [`INDEX_ROWS_MAX`].
    pub index_rows: usize,
    /// Questions about groups that wait for an answer; default [`READINGS_MAX`].
    pub readings: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: REQUESTS_MAX,
            slot_waiters: SLOT_WAITERS_MAX,
            waiters: WAITERS_MAX,
            tombstones: TOMBSTONES_MAX,
            image_chunk: IMAGE_CHUNK_BYTES,
            level_slack: LEVEL_SLACK,
            index_rows: INDEX_ROWS_MAX,
            readings: READINGS_MAX,
        }
    }
}

/// How full one table of a node is: for checkers and operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What it holds, in one or two words.
    pub table: &'static str,
    /// Entries now.
    pub used: usize,
    /// Entries at most.
    pub limit: usize,
}

impl Usage {
    /// A table with so many entries of at most so many.
    pub const fn new(table: &'static str, used: usize, limit: usize) -> Self {
        Self { table, used, limit }
    }
}
