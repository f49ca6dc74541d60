//! Every `select!` is biased: an unbiased one draws from a hidden random source, so a simulated run could not be
//! repeated, and its author has not said what comes first.

use crate::finding::Finding;
use crate::source::Source;

pub(crate) fn check(source: &Source) -> Vec<Finding> {
    source
        .words("select")
        .filter_map(|at| {
            let rest = source.code[at..].strip_prefix("select!")?.trim_start();
            let body = rest.strip_prefix(['{', '('])?.trim_start();
            (!body.starts_with("biased")).then(|| {
                Finding::new(
                    &source.path,
                    source.line_of(at),
                    "select",
                    "`select!` must begin with `biased;`",
                )
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unbiased_select_is_found() {
        let text = "select! {\n biased;\n a => {} }\ntokio::select! { // biased\n a => {} }\nfn select() {}";
        let found: Vec<_> = check(&Source::new("a.rs", text)).iter().map(|finding| finding.line).collect();
        assert_eq!(found, [4]);
    }
}
