//! Which names a listing, a count or a stream is about, and what is told of each of them.
//!
//! A filter is texts, checked when it comes from a peer and never before: what no name could have is simply nobody's.

use minicbor::{Decode, Encode};

use super::attached::{MetaRead, membership_bytes};
use super::record::{Located, Record, RecordState};
use crate::base::hash::{hash, mix};
use crate::base::limits::{LIST_NAMES_MAX, METADATA_BYTES_MAX, NAME_BYTES_MAX};
use crate::base::{Group, Incarnation, Membership, Name, Token};
use crate::view::View;

/// Seed of the hash of rows.
const ROW_SEED: u64 = 0x4c49_5354_4544_524f;

/// Which names are meant. All given conditions must hold; none is given by [`Filter::all`].
///
/// ```
/// # use whimbrel_core::directory::Filter;
/// let vips = Filter::all().prefix("user:").kind("session").metadata("plan", "gold").label("zone", "eu");
/// # let _ = vips;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Filter {
    /// Names that begin so.
    #[n(0)]
    pub prefix: Option<String>,
    /// Processes of this kind.
    #[n(1)]
    pub kind: Option<String>,
    /// Members of this group.
    #[n(2)]
    pub group: Option<Group>,
    /// Members of any group of this scope.
    #[n(3)]
    pub scope: Option<String>,
    /// Names whose metadata has this text at this key.
    #[n(4)]
    pub metadata: Option<(String, String)>,
    /// Names on nodes that have this label, key and value.
    #[n(5)]
    pub label: Option<(String, String)>,
    /// Names on this life of a node.
    #[n(6)]
    pub host: Option<Incarnation>,
    /// Only names behind this one, in the order of names: where a page begins.
    #[n(7)]
    pub after: Option<Name>,
    /// At most so many names in one page; 0, and whatever is above it, for [`LIST_NAMES_MAX`].
    #[n(8)]
    #[cbor(default)]
    pub limit: u32,
}

impl Filter {
    /// Every name.
    pub fn all() -> Self {
        Self::default()
    }

    /// Names that begin so.
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = Some(prefix.to_owned());
        self
    }

    /// Processes of this kind.
    pub fn kind(mut self, kind: &str) -> Self {
        self.kind = Some(kind.to_owned());
        self
    }

    /// Members of this group.
    pub fn group(mut self, group: Group) -> Self {
        self.group = Some(group);
        self
    }

    /// Members of any group of this scope.
    pub fn scope(mut self, scope: &str) -> Self {
        self.scope = Some(scope.to_owned());
        self
    }

    /// Names whose metadata has this text at this key.
    pub fn metadata(mut self, key: &str, text: &str) -> Self {
        self.metadata = Some((key.to_owned(), text.to_owned()));
        self
    }

    /// Names that are on nodes with this label.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.label = Some((key.to_owned(), value.to_owned()));
        self
    }

    /// Names that are on this life of a node.
    pub fn host(mut self, host: Incarnation) -> Self {
        self.host = Some(host);
        self
    }

    /// A page that begins behind this name. Streams have no pages, and ignore it.
    pub fn page_after(mut self, name: Name) -> Self {
        self.after = Some(name);
        self
    }

    /// At most so many names in one page, and never more than [`LIST_NAMES_MAX`]. Streams have no pages, and ignore it.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    /// Names in one page.
    pub(super) fn page_names(&self) -> usize {
        match usize::try_from(self.limit) {
            Ok(limit @ 1..=LIST_NAMES_MAX) => limit,
            _ => LIST_NAMES_MAX,
        }
    }

    /// The same without pages.
    pub(super) fn unpaged(mut self) -> Self {
        (self.after, self.limit) = (None, 0);
        self
    }

    /// Whether a record is meant; labels are those of the members of this view.
    pub(super) fn matches(&self, record: &Record, view: &View) -> bool {
        let has_label = |(key, value): &(String, String)| {
            let labels = view.member(record.host).map(|member| &member.labels);
            labels.and_then(|labels| labels.get(key.as_str())).is_some_and(|label| label.as_str() == value)
        };
        let in_group = |group: &Group| record.groups().iter().any(|known| known.group == *group);
        let in_scope =
            |scope: &String| record.groups().iter().any(|known| known.group.scope.as_str() == scope);
        self.prefix.as_ref().is_none_or(|prefix| record.name.as_str().starts_with(prefix.as_str()))
            && self.kind.as_ref().is_none_or(|kind| record.kind.as_str() == kind)
            && self.host.is_none_or(|host| record.host == host)
            && self.after.as_ref().is_none_or(|after| record.name > *after)
            && self.group.as_ref().is_none_or(in_group)
            && self.scope.as_ref().is_none_or(in_scope)
            && self.metadata.as_ref().is_none_or(|(key, text)| record.metadata(key) == Some(text.as_str()))
            && self.label.as_ref().is_none_or(has_label)
    }

    /// Whether there can be a name that it means.
    pub(super) fn is_sound(&self) -> bool {
        let fits = |text: &Option<String>| text.as_ref().is_none_or(|text| text.len() <= NAME_BYTES_MAX);
        let pair = |pair: &Option<(String, String)>, most: usize| {
            pair.as_ref().is_none_or(|(key, text)| key.len() <= NAME_BYTES_MAX && text.len() <= most)
        };
        fits(&self.prefix)
            && fits(&self.kind)
            && fits(&self.scope)
            && pair(&self.metadata, METADATA_BYTES_MAX)
            && pair(&self.label, NAME_BYTES_MAX)
    }
}

/// What a listing or a stream tells of a name.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Listed {
    /// The name.
    #[n(0)]
    pub name: Name,
    /// Where it is.
    #[n(1)]
    pub located: Located,
    /// What it is doing.
    #[n(2)]
    pub state: RecordState,
    /// The first token of its present life: another one is another life, planned moves keep it.
    #[n(3)]
    #[cbor(default)]
    pub born: Token,
    /// The groups it is in, in order.
    #[n(4)]
    #[cbor(default)]
    pub groups: Vec<Membership>,
    /// Its metadata.
    #[n(5)]
    #[cbor(default)]
    pub meta: MetaRead,
}

impl Listed {
    pub(super) fn of(record: &Record) -> Self {
        Self {
            name: record.name.clone(),
            located: record.located(),
            state: record.state,
            born: record.born,
            groups: record.groups().to_vec(),
            meta: record.meta(),
        }
    }

    /// About how many bytes it takes on the wire.
    pub(super) fn bytes(&self) -> usize {
        let groups: usize = self.groups.iter().map(membership_bytes).sum();
        self.name.as_str().len() + self.located.kind.as_str().len() + groups + self.meta.map.bytes() + 96
    }

    /// The row as a number: rows of one name that differ in any way that a watcher cares for have different ones, but for
    /// metadata in groups.
    pub(super) fn digest(&self) -> u64 {
        let text = |name: &Name| hash(ROW_SEED, name.as_str().as_bytes());
        let parts = [
            self.located.token.as_u64(),
            self.located.gate.as_u64(),
            self.located.host.nonce,
            self.state as u64,
            self.born.as_u64(),
            self.meta.version,
        ];
        let groups = self.groups.iter().map(|known| text(&known.group.scope) ^ mix(text(&known.group.name)));
        parts
            .into_iter()
            .chain(groups)
            .fold(text(&self.name), |sum, part| mix(sum ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::super::attached::Attachment;
    use super::*;
    use crate::base::{Metadata, RequestId};
    use crate::view::{MemberInfo, ViewId};

    const HOST: Incarnation = Incarnation { started_ms: 1, nonce: 7 };

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn view() -> View {
        let member = MemberInfo {
            name: name("a"),
            incarnation: HOST,
            address: Arc::from("a:1"),
            weight: 100,
            kinds: Vec::new(),
            draining: false,
            labels: [(name("zone"), name("eu"))].into(),
        };
        View { id: ViewId { counter: 1, author: 1 }, parent: None, members: vec![member] }
    }

    fn record() -> Record {
        let by = RequestId { caller: HOST, number: 1 };
        let mut record = Record::first(name("user:7"), name("session"), HOST, Token::from_u64(5), by);
        let meta = Metadata::default();
        record.attach(Attachment::Joined(Membership { group: Group::new("chat", "lobby").unwrap(), meta }));
        let map = Metadata::new().with("plan", "gold").unwrap();
        record.attach(Attachment::Meta { map, by });
        record
    }

    #[test]
    fn every_condition_must_hold_and_each_can_fail() {
        let all = || Filter::all();
        let lobby = Group::new("chat", "lobby").unwrap();
        let held = all().prefix("user:").kind("session").group(lobby).scope("chat").host(HOST);
        let held = held.metadata("plan", "gold").label("zone", "eu").page_after(name("user:6"));
        assert!(all().matches(&record(), &view()) && held.matches(&record(), &view()));
        let other = Incarnation { started_ms: 1, nonce: 8 };
        let failing = [
            all().prefix("user:8"),
            all().kind("sessio"),
            all().group(Group::new("chat", "hall").unwrap()),
            all().group(Group::new("game", "lobby").unwrap()),
            all().scope("game"),
            all().host(other),
            all().metadata("plan", "silver"),
            all().metadata("gold", "plan"),
            all().label("zone", "us"),
            all().label("rack", "eu"),
            all().page_after(name("user:7")),
        ];
        for filter in failing {
            assert!(!filter.matches(&record(), &view()), "{filter:?}");
        }
        let nowhere = View { members: Vec::new(), ..view() };
        assert!(!all().label("zone", "eu").matches(&record(), &nowhere), "its host has left");
    }

    #[test]
    fn what_no_name_can_have_is_not_sound() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        let unsound = [
            Filter::all().prefix(&long),
            Filter::all().kind(&long),
            Filter::all().scope(&long),
            Filter::all().metadata(&long, ""),
            Filter::all().metadata("k", &"x".repeat(METADATA_BYTES_MAX + 1)),
            Filter::all().label("k", &long),
        ];
        assert!(unsound.iter().all(|filter| !filter.is_sound()) && Filter::all().is_sound());
        assert_eq!(Filter::all().page_names(), LIST_NAMES_MAX);
        assert_eq!(
            (Filter::all().limit(7).page_names(), Filter::all().limit(u32::MAX).page_names()),
            (7, LIST_NAMES_MAX)
        );
    }

    #[test]
    fn rows_that_differ_have_different_digests() {
        let first = Listed::of(&record());
        let mut moved = record();
        moved.host.nonce += 1;
        let mut left = record();
        left.attach(Attachment::Left(Group::new("chat", "lobby").unwrap()));
        let mut updated = record();
        updated.attach(Attachment::Meta { map: Metadata::new(), by: updated.request });
        let mut stopping = record();
        stopping.state = RecordState::Stopping;
        for other in [moved, left, updated, stopping] {
            assert_ne!(Listed::of(&other).digest(), first.digest());
        }
    }
}
