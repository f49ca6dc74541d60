//! The rules, one file each. A rule takes texts and returns findings.

pub(crate) mod crates;
pub(crate) mod essay;
pub(crate) mod layers;
pub(crate) mod licence;
pub(crate) mod lock;
pub(crate) mod manifest;
pub(crate) mod readme;
pub(crate) mod reasons;
pub(crate) mod select;
pub(crate) mod size;
pub(crate) mod statics;
pub(crate) mod words;
