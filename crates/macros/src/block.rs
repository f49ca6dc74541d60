//! The `impl` block: which process it belongs to, which of its methods are messages, and what no single method
//! can tell about itself.

use std::collections::BTreeMap;

use proc_macro2::Span;
use quote::format_ident;
use syn::ext::IdentExt;
use syn::{
    Attribute, Error, FnArg, Ident, ImplItem, ImplItemFn, ItemImpl, Path, PathArguments, Result, Type,
    Visibility,
};

use crate::method::{Method, check_no_generics, is_serde};
use crate::options::{BlockOptions, Reach, Verb};
use crate::refusals::Refusals;

/// The messages of one process.
pub(crate) struct Messages {
    /// The process, as its block names it.
    pub(crate) process: Path,
    /// `CounterRef` of `Counter`.
    pub(crate) extension: Ident,
    pub(crate) visibility: Visibility,
    pub(crate) reach: Reach,
    pub(crate) methods: Vec<Method>,
}

/// Reads `block` and checks it.
///
/// # Errors
/// Everything that is wrong with it, each at its tokens.
pub(crate) fn read(block: &ItemImpl, options: BlockOptions) -> Result<Messages> {
    let (process, ident) = process_of(block)?;
    let mut refusals = Refusals::default();
    let mut methods = Vec::new();
    for item in &block.items {
        let read = match item {
            ImplItem::Fn(method) => read_method(method, &process, options.reach),
            other => refuse_verbs(other),
        };
        methods.extend(refusals.note(read).flatten());
    }
    let extension = format_ident!("{}Ref", ident.unraw(), span = ident.span());
    refusals.note(check_names(&methods, &extension));
    refusals.into_result()?;
    let BlockOptions { reach, visibility } = options;
    Ok(Messages { process, extension, visibility, reach, methods })
}

/// Takes the attributes away that only `#[handlers]` understands.
pub(crate) fn strip(block: &mut ItemImpl) {
    for item in &mut block.items {
        let Some(attributes) = attributes_of(item) else { continue };
        let was_message = attributes.iter().any(|attribute| Verb::of(attribute).is_some());
        attributes.retain(|attribute| Verb::of(attribute).is_none());
        if let ImplItem::Fn(method) = item
            && was_message
        {
            for input in &mut method.sig.inputs {
                if let FnArg::Typed(typed) = input {
                    typed.attrs.retain(|attribute| !is_serde(attribute));
                }
            }
        }
    }
}

fn process_of(block: &ItemImpl) -> Result<(Path, Ident)> {
    if let Some((path, _)) = &block.trait_ {
        let text = "`#[handlers]` stands on an inherent `impl` block, not on the implementation of a trait";
        return Err(Error::new_spanned(path, text));
    }
    let generic = "a process type under `#[handlers]` has no generics: its messages are types with one wire name; \
                   make a type per use, or implement `Handler` by hand";
    check_no_generics(&block.generics, generic)?;
    let mut ty = &*block.self_ty;
    while let Type::Group(group) = ty {
        ty = &group.elem; // A `$process:ty` of the user's own macro comes in an invisible group.
    }
    if let Type::Path(path) = ty
        && path.qself.is_none()
        && let Some(last) = path.path.segments.last()
    {
        return match last.arguments {
            PathArguments::None => Ok((path.path.clone(), last.ident.clone())),
            _ => Err(Error::new_spanned(&last.arguments, generic)),
        };
    }
    Err(Error::new_spanned(ty, "`#[handlers]` stands on the `impl` block of a process type with a name"))
}

fn read_method(method: &ImplItemFn, process: &Path, reach: Reach) -> Result<Option<Method>> {
    let mut verbs = method.attrs.iter().filter_map(|attribute| Some((Verb::of(attribute)?, attribute)));
    let Some((verb, attribute)) = verbs.next() else { return Ok(None) };
    if let Some((_, second)) = verbs.next() {
        return Err(Error::new_spanned(second, "a method handles one message: a `#[call]` or a `#[cast]`"));
    }
    Method::read(verb, attribute, method, process, reach).map(Some)
}

fn refuse_verbs(item: &ImplItem) -> Result<Option<Method>> {
    let attributes: &[Attribute] = match item {
        ImplItem::Const(item) => &item.attrs,
        ImplItem::Type(item) => &item.attrs,
        ImplItem::Macro(item) => &item.attrs,
        _ => &[],
    };
    match attributes.iter().find(|attribute| Verb::of(attribute).is_some()) {
        Some(attribute) => Err(Error::new_spanned(attribute, "only a method handles a message")),
        None => Ok(None),
    }
}

/// Refuses two messages of one wire name or of one type name. Methods under a condition may exclude each other and
/// are left to the compiler and to registration (`DuplicateMessage`).
fn check_names(methods: &[Method], extension: &Ident) -> Result<()> {
    let mut refusals = Refusals::default();
    let mut wire_names: BTreeMap<String, Span> = BTreeMap::new();
    let mut types: BTreeMap<String, Span> = BTreeMap::from([(extension.to_string(), extension.span())]);
    for method in methods.iter().filter(|method| method.conditions().next().is_none()) {
        let wire_name = method.wire_name.value();
        if let Some(first) = wire_names.insert(wire_name.clone(), method.wire_name.span()) {
            let mut error =
                Error::new(method.wire_name.span(), format!("a second message named `{wire_name}`"));
            error.combine(Error::new(first, format!("the first message named `{wire_name}`")));
            refusals.add(error);
            continue;
        }
        let message = method.message.to_string();
        if types.insert(message.clone(), method.ident.span()).is_some() {
            let taken = if *extension == message { "the extension trait" } else { "another message" };
            let text =
                format!("the message type `{message}` would have the name of {taken}: rename the method");
            refusals.add(Error::new(method.ident.span(), text));
        }
    }
    refusals.into_result()
}

fn attributes_of(item: &mut ImplItem) -> Option<&mut Vec<Attribute>> {
    match item {
        ImplItem::Fn(item) => Some(&mut item.attrs),
        ImplItem::Const(item) => Some(&mut item.attrs),
        ImplItem::Type(item) => Some(&mut item.attrs),
        ImplItem::Macro(item) => Some(&mut item.attrs),
        _ => None,
    }
}
