//! The `#[handlers]` attribute of Whimbrel, re-exported as `whimbrel::handlers`.
//!
//! It turns the methods of one inherent `impl` block into the messages of a process. It writes nothing that a user
//! could not write by hand: a struct and three small trait implementations per message, and one extension trait.
//! It looks at tokens alone, keeps no state and registers nothing; two nodes in one OS process stay two nodes.
//!
//! Reading order: `options` (what stands in the attributes), `method` (one method, checked), `block` (the
//! `impl` block, checked), `expand` (what is written). A refusal is a `compile_error!` at the tokens that caused
//! it. All refusals of a block are told at once, and the block itself is still emitted, so that one mistake does
//! not bring a second error about a method that seems to be missing.

use proc_macro::TokenStream;

mod block;
mod expand;
mod method;
mod options;
mod refusals;

// A link from this page into crate `whimbrel` cannot be resolved here, since that crate depends on this one.
#[doc = include_str!("handlers.md")]
#[proc_macro_attribute]
pub fn handlers(attribute: TokenStream, item: TokenStream) -> TokenStream {
    handlers_of(attribute.into(), &item.into()).into()
}

fn handlers_of(
    attribute: proc_macro2::TokenStream,
    item: &proc_macro2::TokenStream,
) -> proc_macro2::TokenStream {
    let mut block: syn::ItemImpl = match syn::parse2(item.clone()) {
        Ok(block) => block,
        Err(error) => {
            let refusal =
                syn::Error::new(error.span(), "`#[handlers]` stands on an `impl` block of a process");
            let refusal = refusal.into_compile_error();
            return quote::quote!(#refusal #item);
        }
    };
    let messages = syn::parse2(attribute).and_then(|options| block::read(&block, options));
    block::strip(&mut block);
    match messages {
        Ok(messages) => expand::expand(&block, &messages),
        Err(error) => {
            let errors = error.into_compile_error();
            quote::quote!(#block #errors)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use quote::ToTokens;

    use super::*;

    /// The n-th fenced block of the attribute's documentation.
    fn example(n: usize) -> &'static str {
        let after = include_str!("handlers.md").split("```ignore\n").nth(n).unwrap();
        after.split("```").next().unwrap()
    }

    #[test]
    fn the_expansion_in_the_documentation_is_the_real_one() {
        let mut source = syn::parse_str::<syn::File>(example(1)).unwrap();
        let block = source.items.pop().unwrap();
        let syn::Item::Impl(mut block) = block else { panic!("the example ends with the impl block") };
        assert!(block.attrs.remove(0).path().is_ident("handlers"));

        let written = handlers_of(proc_macro2::TokenStream::new(), &block.to_token_stream());
        let written = syn::parse2::<syn::File>(written).unwrap();
        let shown = syn::parse_str::<syn::File>(example(2)).unwrap();
        assert_eq!(written.items.len(), shown.items.len());
        for (written, shown) in written.items.iter().zip(&shown.items) {
            assert_eq!(written.to_token_stream().to_string(), shown.to_token_stream().to_string());
        }
    }

    #[test]
    fn all_refusals_of_a_block_are_told_at_once_and_the_block_stays() {
        let block = quote::quote! {
            impl Counter {
                #[call] async fn add(&mut self, (a, b): (u64, u64)) -> u64 { a + b }
                #[cast] async fn reset(&mut self) -> u64 { 0 }
            }
        };
        let written = syn::parse2::<syn::File>(handlers_of(quote::quote!(), &block)).unwrap();
        let refusals = written.items.iter().filter(|item| matches!(item, syn::Item::Macro(_))).count();
        assert_eq!(refusals, 2);
        let syn::Item::Impl(kept) = &written.items[0] else { panic!("the block comes first") };
        assert_eq!(kept.items.len(), 2);
        assert!(!kept.to_token_stream().to_string().contains("# [ca"));
    }
}
