//! One method that handles a message: what it takes, what it answers, and why it may be refused.
//!
//! A message may be kept, queued, sent to another node and handled long after the caller went on. So its parts are
//! owned and have names (they become the fields of a struct), its type stands on its own (no generics, no
//! lifetimes), and the process is borrowed for the time of one message only.

use proc_macro2::{Group, TokenStream, TokenTree};
use quote::{ToTokens, format_ident};
use syn::ext::IdentExt;
use syn::{
    Attribute, Error, FnArg, GenericArgument, Generics, Ident, ImplItemFn, LitStr, Pat, PatType, Path,
    PathArguments, ReceiverKind, Result, ReturnType, Safety, Signature, Type,
};

use crate::options::{Reach, Verb, wire_name_of};
use crate::refusals::Refusals;

/// A method under `#[call]` or `#[cast]`.
pub(crate) struct Method {
    pub(crate) verb: Verb,
    pub(crate) ident: Ident,
    /// The message struct: `CounterAdd` of `Counter::add`.
    pub(crate) message: Ident,
    pub(crate) wire_name: LitStr,
    /// Whether it takes `cx`.
    pub(crate) takes_context: bool,
    pub(crate) is_async: bool,
    pub(crate) arguments: Vec<Argument>,
    /// `None` is `()`.
    pub(crate) reply: Option<TokenStream>,
    attributes: Vec<Attribute>,
}

/// One parameter, and so one field of the message.
pub(crate) struct Argument {
    pub(crate) ident: Ident,
    /// Its type, with `Self` written out.
    pub(crate) ty: TokenStream,
    /// `#[serde(..)]` attributes, moved from the parameter to the field.
    pub(crate) serde: Vec<Attribute>,
}

impl Method {
    /// Reads `method` of `process`, which carries `attribute`, and checks it.
    ///
    /// # Errors
    /// Everything that is wrong with it, each at its tokens.
    pub(crate) fn read(
        verb: Verb,
        attribute: &Attribute,
        method: &ImplItemFn,
        process: &Path,
        reach: Reach,
    ) -> Result<Self> {
        let signature = &method.sig;
        let mut refusals = Refusals::default();
        refusals.note(check_qualifiers(signature));
        refusals.note(check_receiver(signature));
        refusals.note(check_reply(verb, &signature.output));
        let wire_name = refusals.note(wire_name_of(attribute)).flatten();
        let mut takes_context = false;
        let mut arguments = Vec::new();
        for (at, input) in signature.inputs.iter().filter_map(typed).enumerate() {
            if is_context(&input.ty) {
                takes_context = true;
                if at > 0 {
                    let place = "the context is the first parameter after `self`";
                    refusals.add(Error::new_spanned(input, place));
                }
            } else {
                arguments.extend(refusals.note(Argument::read(input, process, reach)));
            }
        }
        refusals.into_result()?;

        let text = signature.ident.unraw().to_string();
        let owner = process.segments.last().map(|last| last.ident.unraw().to_string()).unwrap_or_default();
        Ok(Self {
            verb,
            ident: signature.ident.clone(),
            message: format_ident!("{owner}{}", pascal(&text), span = signature.ident.span()),
            wire_name: wire_name.unwrap_or_else(|| LitStr::new(&text, signature.ident.span())),
            takes_context,
            is_async: signature.asyncness.is_some(),
            arguments,
            reply: match &signature.output {
                ReturnType::Default => None,
                ReturnType::Type(_, ty) => Some(without_self(ty.to_token_stream(), process)),
            },
            attributes: method.attrs.clone(),
        })
    }

    /// The conditions under which the method exists; whatever belongs to it has the same.
    pub(crate) fn conditions(&self) -> impl Iterator<Item = &Attribute> {
        self.attributes.iter().filter(|attribute| is_condition(attribute))
    }

    /// What the reader of the extension trait should see too: documentation, deprecation, allowed lints.
    pub(crate) fn shown(&self) -> impl Iterator<Item = &Attribute> {
        const SHOWN: [&str; 3] = ["doc", "deprecated", "allow"];
        self.attributes.iter().filter(|attribute| SHOWN.iter().any(|name| attribute.path().is_ident(name)))
    }

    /// Whether the method has documentation of its own.
    pub(crate) fn is_documented(&self) -> bool {
        self.attributes.iter().any(|attribute| attribute.path().is_ident("doc"))
    }
}

impl Argument {
    fn read(input: &PatType, process: &Path, reach: Reach) -> Result<Self> {
        let ident = name_of(&input.pat)?;
        check_owned(&input.ty)?;
        if let Some(attribute) = input.attrs.iter().find(|attribute| is_condition(attribute)) {
            let text = "a parameter under a condition would make two messages of one name";
            return Err(Error::new_spanned(attribute, text));
        }
        let serde: Vec<Attribute> =
            input.attrs.iter().filter(|attribute| is_serde(attribute)).cloned().collect();
        if reach == Reach::Local
            && let Some(attribute) = serde.first()
        {
            return Err(Error::new_spanned(
                attribute,
                "the messages of `#[handlers(local)]` are never serialised",
            ));
        }
        Ok(Self { ident, ty: without_self(input.ty.to_token_stream(), process), serde })
    }
}

/// Whether `attribute` belongs to the struct's field and not to the method's parameter.
pub(crate) fn is_serde(attribute: &Attribute) -> bool {
    attribute.path().is_ident("serde")
}

/// Whether `attribute` can make its item go away.
pub(crate) fn is_condition(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg") || attribute.path().is_ident("cfg_attr")
}

/// Refuses parameters and conditions of a type or a method with `text`.
pub(crate) fn check_no_generics(generics: &Generics, text: &str) -> Result<()> {
    if !generics.params.is_empty() {
        return Err(Error::new_spanned(&generics.params, text));
    }
    match &generics.where_clause {
        Some(conditions) => Err(Error::new_spanned(conditions, text)),
        None => Ok(()),
    }
}

fn check_qualifiers(signature: &Signature) -> Result<()> {
    let generic = "a message method has no generics: each message is one type with one wire name";
    check_no_generics(&signature.generics, generic)?;
    let plain = "a message method is a plain `fn` or `async fn`";
    if let Some(constness) = &signature.constness {
        return Err(Error::new_spanned(constness, plain));
    }
    if let Some(abi) = &signature.abi {
        return Err(Error::new_spanned(abi, plain));
    }
    if let Safety::Unsafe(token) = &signature.safety {
        return Err(Error::new_spanned(token, plain));
    }
    Ok(())
}

fn check_receiver(signature: &Signature) -> Result<()> {
    let text = "a message method takes `&mut self` or `&self`";
    match signature.receiver() {
        Some(receiver) if matches!(receiver.kind, ReceiverKind::Reference(..)) => Ok(()),
        Some(receiver) => Err(Error::new_spanned(receiver, text)),
        None => Err(Error::new_spanned(&signature.ident, text)),
    }
}

fn check_reply(verb: Verb, output: &ReturnType) -> Result<()> {
    let ReturnType::Type(_, ty) = output else { return Ok(()) };
    if verb == Verb::Cast {
        let text = "a cast has no reply: remove the return type, or make the method a `#[call]`";
        return Err(Error::new_spanned(ty, text));
    }
    if let Type::ImplTrait(_) = **ty {
        return Err(Error::new_spanned(ty, "a reply has a type with a name, since it is `Message::Reply`"));
    }
    match borrowed(ty) {
        Some(part) => Err(Error::new_spanned(part, "a reply is owned: it may travel to another node")),
        None => Ok(()),
    }
}

fn check_owned(ty: &Type) -> Result<()> {
    if let Type::ImplTrait(_) = ty {
        return Err(Error::new_spanned(
            ty,
            "a parameter has a type with a name: it is a field of the message",
        ));
    }
    let Some(part) = borrowed(ty) else { return Ok(()) };
    let mut text =
        String::from("a parameter is owned: the message may wait in a queue or travel to another node");
    let Type::Reference(reference) = part else { return Err(Error::new_spanned(part, text)) };
    if let Type::Path(path) = &*reference.elem
        && path.path.is_ident("str")
    {
        text.push_str("; take a `String`");
    }
    Err(Error::new_spanned(part, text))
}

/// The first reference within `ty`, as far as it can be seen without knowing other types.
fn borrowed(ty: &Type) -> Option<&Type> {
    match ty {
        Type::Reference(_) => Some(ty),
        Type::Array(array) => borrowed(&array.elem),
        Type::Group(group) => borrowed(&group.elem),
        Type::Paren(paren) => borrowed(&paren.elem),
        Type::Slice(slice) => borrowed(&slice.elem),
        Type::Tuple(tuple) => tuple.elems.iter().find_map(borrowed),
        Type::Path(path) => path.path.segments.iter().find_map(|segment| match &segment.arguments {
            PathArguments::AngleBracketed(list) => list.args.iter().find_map(|argument| match argument {
                GenericArgument::Type(ty) => borrowed(ty),
                _ => None,
            }),
            _ => None,
        }),
        _ => None,
    }
}

/// `&mut Context<..>`, by whatever path; `&Context<..>` is enough for a method that only reads it.
fn is_context(ty: &Type) -> bool {
    let Type::Reference(reference) = ty else { return false };
    let Type::Path(path) = &*reference.elem else { return false };
    path.path.segments.last().is_some_and(|last| last.ident == "Context")
}

fn typed(input: &FnArg) -> Option<&PatType> {
    match input {
        FnArg::Typed(typed) => Some(typed),
        FnArg::Receiver(_) => None,
    }
}

fn name_of(pattern: &Pat) -> Result<Ident> {
    if let Pat::Ident(name) = pattern
        && name.by_ref.is_none()
        && name.subpat.is_none()
    {
        return Ok(name.ident.clone());
    }
    let text = "a parameter has a name, not a pattern: it is a field of the message";
    Err(Error::new_spanned(pattern, text))
}

/// `tokens` with `Self` replaced: in the message's struct it would mean the message.
fn without_self(tokens: TokenStream, process: &Path) -> TokenStream {
    let replace = |tree: TokenTree| -> TokenStream {
        match tree {
            TokenTree::Ident(word) if word == "Self" => process.to_token_stream(),
            TokenTree::Group(group) => {
                let mut replaced = Group::new(group.delimiter(), without_self(group.stream(), process));
                replaced.set_span(group.span());
                replaced.to_token_stream()
            }
            other => other.into(),
        }
    };
    tokens.into_iter().flat_map(replace).collect()
}

/// `add_many` as `AddMany`.
fn pascal(method: &str) -> String {
    let mut name = String::with_capacity(method.len());
    for word in method.split('_') {
        let mut letters = word.chars();
        name.extend(letters.next().into_iter().flat_map(char::to_uppercase));
        name.push_str(letters.as_str());
    }
    name
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use quote::quote;
    use syn::parse_quote;

    use super::*;

    fn read(method: &ImplItemFn) -> Method {
        let attribute = parse_quote!(#[call]);
        Method::read(Verb::Call, &attribute, method, &parse_quote!(shop::Basket), Reach::Cluster).unwrap()
    }

    #[test]
    fn names_are_derived_from_the_last_path_segment_and_the_method() {
        for (method, message, wire_name) in [
            (quote!(add), "BasketAdd", "add"),
            (quote!(add_many_of), "BasketAddManyOf", "add_many_of"),
            (quote!(r#move), "BasketMove", "move"),
            (quote!(_v2), "BasketV2", "_v2"),
            (quote!(größe), "BasketGröße", "größe"),
        ] {
            let method = read(&parse_quote!(fn #method(&self) {}));
            assert_eq!(method.message.to_string(), message);
            assert_eq!(method.wire_name.value(), wire_name);
        }
    }

    #[test]
    fn self_is_written_out_wherever_it_stands() {
        let method = read(&parse_quote!(
            fn merge(&mut self, with: Vec<(Self, [Self; 2])>) -> Option<Self> {}
        ));
        let shown = |tokens: &TokenStream| tokens.to_string().replace(' ', "");
        assert_eq!(shown(&method.arguments[0].ty), "Vec<(shop::Basket,[shop::Basket;2])>");
        assert_eq!(shown(&method.reply.unwrap()), "Option<shop::Basket>");
    }

    #[test]
    fn the_context_is_known_by_its_type_and_is_no_part_of_the_message() {
        for (inputs, takes_context, arguments) in [
            (quote!(&mut self), false, 0),
            (quote!(&mut self, cx: &mut Context<Self>), true, 0),
            (quote!(&mut self, _: &mut whimbrel::Context<Basket>, n: u64), true, 1),
            (quote!(&self, cx: &Context<Self>, a: u8, mut b: u8), true, 2),
            (quote!(&mut self, cx: Context), false, 1),
        ] {
            let method = read(&parse_quote!(fn add(#inputs) {}));
            assert_eq!((method.takes_context, method.arguments.len()), (takes_context, arguments));
        }
    }
}
