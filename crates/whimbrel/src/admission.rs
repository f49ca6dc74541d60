//! Which nodes a node speaks to, beside all that know the secret.
//!
//! Decides: whether a node that has proven to know the cluster's secret gets a session, by the name and the labels
//! that it shows. Promises: a refused node learns why, and nothing else of the cluster; deny goes before allow. Assumes:
//! all nodes have the same lists, since a node that some admit and others do not is without a link to those, and is left
//! out of the view for it. A node that changes nothing here admits everybody.

use whimbrel_core::base::Name;
use whimbrel_core::base::limits::LABELS_MAX;
use whimbrel_core::view::{Labels, MemberInfo};

use crate::error::JoinError;

/// What one rule looks at: a pattern in which `*` stands for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeRule {
    /// The node's name.
    Name(String),
    /// The value of one of its labels; a node without it does not fit.
    Label {
        /// The key, as it is.
        key: String,
        /// The pattern of the value.
        value: String,
    },
}

impl NodeRule {
    /// A rule as configurations write it: `web-*` for names, `zone=eu-*` for a label.
    pub fn parse(text: &str) -> Self {
        match text.split_once('=') {
            Some((key, value)) => NodeRule::Label { key: key.to_owned(), value: value.to_owned() },
            None => NodeRule::Name(text.to_owned()),
        }
    }

    fn fits(&self, node: &MemberInfo) -> bool {
        match self {
            NodeRule::Name(pattern) => fits(pattern, node.name.as_str()),
            NodeRule::Label { key, value } => {
                node.labels.iter().any(|(known, text)| known.as_str() == key && fits(value, text.as_str()))
            }
        }
    }
}

/// Whom a node admits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Admission {
    /// Empty for everybody.
    pub(crate) allow: Vec<NodeRule>,
    pub(crate) deny: Vec<NodeRule>,
}

impl Admission {
    pub(crate) fn admits(&self, node: &MemberInfo) -> bool {
        let allowed = self.allow.is_empty() || self.allow.iter().any(|rule| rule.fits(node));
        allowed && !self.deny.iter().any(|rule| rule.fits(node))
    }
}

/// Adds a label to those of this node.
pub(crate) fn add_label(labels: &mut Labels, key: &str, value: &str) -> Result<(), JoinError> {
    let bad = |rule: String| JoinError::BadLabel { key: key.to_owned(), rule };
    let name = |text: &str| Name::new(text).map_err(|error| bad(error.to_string()));
    labels.insert(name(key)?, name(value)?);
    if labels.len() > LABELS_MAX {
        return Err(bad(format!("a node has at most {LABELS_MAX} labels")));
    }
    Ok(())
}

/// Whether the text is the pattern, with any text for each `*`. Its time is at most the product of the lengths.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        // The first place leaves most for what follows.
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use whimbrel_core::base::Incarnation;

    fn node(name: &str, labels: &[(&str, &str)]) -> MemberInfo {
        let mut known = Labels::new();
        labels.iter().for_each(|(key, value)| add_label(&mut known, key, value).unwrap());
        MemberInfo {
            name: Name::new(name).unwrap(),
            incarnation: Incarnation { started_ms: 1, nonce: 1 },
            address: "".into(),
            weight: 100,
            kinds: Vec::new(),
            draining: false,
            labels: known,
        }
    }

    #[test]
    fn a_star_stands_for_any_text() {
        let cases = [
            ("web", "web", true),
            ("web", "webs", false),
            ("web-*", "web-1", true),
            ("web-*", "web-", true),
            ("web-*", "we", false),
            ("*", "", true),
            ("*-eu", "web-eu", true),
            ("*-eu", "web-eu-1", false),
            ("w*b*1", "web-b1", true),
            ("w*b*1", "web-", false),
            ("a*a", "a", false),
            ("**", "x", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn deny_goes_before_allow_and_no_list_admits_everybody() {
        let rules = |texts: &[&str]| texts.iter().map(|text| NodeRule::parse(text)).collect();
        let web = node("web-1", &[("zone", "eu-1")]);
        let cases: [(&[&str], &[&str], bool); 7] = [
            (&[], &[], true),
            (&["web-*"], &[], true),
            (&["db-*"], &[], false),
            (&["db-*", "zone=eu-*"], &[], true),
            (&["web-*"], &["zone=eu-1"], false),
            (&["zone=us-*"], &[], false),
            (&["rack=*"], &[], false),
        ];
        for (allow, deny, expected) in cases {
            let admission = Admission { allow: rules(allow), deny: rules(deny) };
            assert_eq!(admission.admits(&web), expected, "{allow:?} {deny:?}");
        }
    }

    #[test]
    fn a_label_that_is_no_name_or_one_too_many_is_refused() {
        let mut labels = Labels::new();
        assert!(matches!(add_label(&mut labels, "", "x"), Err(JoinError::BadLabel { .. })));
        for at in 0..LABELS_MAX {
            add_label(&mut labels, &format!("k{at}"), "v").unwrap();
        }
        add_label(&mut labels, "k0", "other").unwrap();
        assert!(matches!(add_label(&mut labels, "more", "v"), Err(JoinError::BadLabel { .. })));
    }
}
