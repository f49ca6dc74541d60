//! demo
pub(crate) mod database;
pub(crate) mod evidence;
