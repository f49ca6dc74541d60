//! What a user writes inside `#[handlers(..)]`, `#[call(..)]` and `#[cast(..)]`.

use proc_macro2::Span;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Attribute, Error, Ident, LitStr, Meta, Result, Token, Visibility, parse_quote_spanned};

/// Bytes of a message name; the same limit as that of names and kinds (`whimbrel_core::base::limits`).
const NAME_BYTES_MAX: usize = 255;

/// How the messages of a block travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Between nodes: serde is derived.
    Cluster,
    /// Within one node: parameters and replies need no serde.
    Local,
}

/// The arguments of `#[handlers]`.
pub(crate) struct BlockOptions {
    pub(crate) reach: Reach,
    /// Of the message structs and of the extension trait; `pub` if none is given.
    pub(crate) visibility: Visibility,
}

impl Parse for BlockOptions {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut local = None;
        let mut visibility = None;
        while !input.is_empty() {
            let before = input.span();
            let twice = if input.peek(Token![pub]) {
                visibility.replace(plain(input.parse()?)).is_some()
            } else {
                let word = Ident::parse_any(input)?;
                if word != "local" {
                    let known = "`#[handlers]` takes `local` and a visibility such as `pub(crate)`";
                    return Err(Error::new(word.span(), known));
                }
                local.replace(word).is_some()
            };
            if twice {
                return Err(Error::new(before, "given twice"));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        let reach = if local.is_some() { Reach::Local } else { Reach::Cluster };
        let visibility = visibility.unwrap_or_else(|| parse_quote_spanned!(Span::mixed_site()=> pub));
        Ok(Self { reach, visibility })
    }
}

/// `pub(self)` as what it means; clippy asks nobody to write it out.
fn plain(visibility: Visibility) -> Visibility {
    match visibility {
        Visibility::Restricted(within) if within.path.is_ident("self") => Visibility::Inherited,
        other => other,
    }
}

/// Whether the sender waits for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Call,
    Cast,
}

impl Verb {
    /// The verb that `attribute` is, if it is one.
    pub(crate) fn of(attribute: &Attribute) -> Option<Self> {
        if attribute.path().is_ident("call") {
            Some(Self::Call)
        } else if attribute.path().is_ident("cast") {
            Some(Self::Cast)
        } else {
            None
        }
    }
}

/// The wire name that `#[call(name = "..")]` or `#[cast(name = "..")]` asks for.
///
/// # Errors
/// Anything but `name = ".."`, and a name that breaks the rules of names.
pub(crate) fn wire_name_of(attribute: &Attribute) -> Result<Option<LitStr>> {
    if let Meta::Path(_) = attribute.meta {
        return Ok(None);
    }
    let mut found = None;
    for option in attribute.parse_args_with(Punctuated::<MessageOption, Token![,]>::parse_terminated)? {
        let MessageOption::Name(text) = option;
        if found.is_some() {
            return Err(Error::new(text.span(), "given twice"));
        }
        check_name(&text)?;
        found = Some(text);
    }
    Ok(found)
}

enum MessageOption {
    Name(LitStr),
}

impl Parse for MessageOption {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let word = Ident::parse_any(input)?;
        if word != "name" {
            return Err(Error::new(
                word.span(),
                "the only option is `name = \"..\"`, the message's name on the wire",
            ));
        }
        input.parse::<Token![=]>()?;
        input.parse().map(Self::Name)
    }
}

fn check_name(text: &LitStr) -> Result<()> {
    let name = text.value();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        let rule = "a message name has 1 to 255 bytes of UTF-8 and no control characters";
        return Err(Error::new(text.span(), rule));
    }
    Ok(())
}
