//! What `#[handlers]` writes; `handlers.md` shows it for one process, and a test compares the two.
//!
//! Names of our own have the hygiene of `macro_rules!` (mixed site): a parameter called `message` or `cx` cannot
//! meet ours. Every path starts at `::whimbrel` or `::core`. Spans point at the user's method, so that an error that
//! only the compiler can find (a future that is not `Send`, a reply that is not `Serialize`) shows the user's line.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ItemImpl;
use syn::spanned::Spanned;

use crate::block::Messages;
use crate::method::Method;
use crate::options::{Reach, Verb};

/// The block itself and what belongs to its messages.
pub(crate) fn expand(block: &ItemImpl, messages: &Messages) -> TokenStream {
    let structs = messages.methods.iter().map(|method| message_struct(messages, method));
    let implementations = messages.methods.iter().map(|method| {
        let message = message_impl(messages, method);
        let handler = handler_impl(messages, method);
        quote!(#message #handler)
    });
    let list = speaks_impl(messages);
    let extension = extension_trait(messages);
    quote! {
        #block
        #(#structs)*
        #(#implementations)*
        #list
        #extension
    }
}

/// Tokens of ours that belong to `method` and are shown at its name.
fn at(method: &Method) -> Span {
    Span::mixed_site().located_at(method.ident.span())
}

fn message_struct(messages: &Messages, method: &Method) -> TokenStream {
    let Messages { visibility, process, .. } = messages;
    let Method { message, arguments, .. } = method;
    let conditions = method.conditions();
    let text = format!("The message that `{}::{}` handles.", shown(process), method.ident);
    let serde = (messages.reach == Reach::Cluster).then(|| {
        quote_spanned! {at(method)=>
            #[derive(::whimbrel::serde::Serialize, ::whimbrel::serde::Deserialize)]
            #[serde(crate = "::whimbrel::serde")]
        }
    });
    let fields = arguments.iter().map(|argument| {
        let text = format!("The parameter `{}`.", argument.ident);
        let (attributes, ident, ty) = (&argument.serde, &argument.ident, &argument.ty);
        let here = Span::mixed_site().located_at(ident.span());
        quote_spanned! {here=>
            #[doc = #text]
            #(#attributes)*
            pub #ident: #ty
        }
    });
    // Braces without fields too: a parameter that is added later changes a map, not the shape of the message.
    quote_spanned! {at(method)=>
        #(#conditions)*
        #[doc = #text]
        #serde
        #[allow(dead_code, unreachable_pub)]
        #visibility struct #message { #(#fields),* }
    }
}

fn message_impl(messages: &Messages, method: &Method) -> TokenStream {
    let Method { message, wire_name, .. } = method;
    let conditions = method.conditions();
    // Shown at the reply itself: that it is private or has no serde.
    let (reply, here) = match &method.reply {
        Some(reply) => (reply.clone(), Span::mixed_site().located_at(reply.span())),
        None => (quote!(()), at(method)),
    };
    let reply = quote_spanned!(here=> type Reply = #reply;);
    let wire = (messages.reach == Reach::Cluster)
        .then(|| quote_spanned!(here=> const WIRE: ::whimbrel::Wire<Self> = ::whimbrel::Wire::NAMED;));
    quote_spanned! {at(method)=>
        #(#conditions)*
        impl ::whimbrel::Message for #message {
            #reply
            const NAME: &'static str = #wire_name;
            #wire
        }
    }
}

fn handler_impl(messages: &Messages, method: &Method) -> TokenStream {
    let process = &messages.process;
    let Method { message, ident, .. } = method;
    let conditions = method.conditions();
    let fields: Vec<_> = method.arguments.iter().map(|argument| &argument.ident).collect();
    let here = at(method);
    let (context, passed) = if method.takes_context {
        (quote_spanned!(here=> cx), quote_spanned!(here=> cx,))
    } else {
        (quote_spanned!(here=> _cx), TokenStream::new())
    };
    let wait = method.is_async.then(|| quote_spanned!(here=> .await));
    let reply = reply_arrow(method);
    quote_spanned! {here=>
        #(#conditions)*
        #[allow(deprecated)]
        impl ::whimbrel::Handler<#message> for #process {
            async fn handle(&mut self, message: #message, #context: &mut ::whimbrel::Context<Self>) #reply {
                let #message { #(#fields),* } = message;
                <Self>::#ident(self, #passed #(#fields),*) #wait
            }
        }
    }
}

fn reply_arrow(method: &Method) -> Option<TokenStream> {
    method.reply.as_ref().map(|reply| quote!(-> #reply))
}

fn speaks_impl(messages: &Messages) -> TokenStream {
    let process = &messages.process;
    let adds = messages.methods.iter().map(|method| {
        let conditions = method.conditions();
        let message = &method.message;
        quote_spanned!(at(method)=> #(#conditions)* list.add::<#message>();)
    });
    let list =
        if messages.methods.is_empty() { quote!(_list) } else { quote_spanned!(Span::mixed_site()=> list) };
    quote_spanned! {Span::mixed_site()=>
        impl ::whimbrel::Speaks for #process {
            fn messages(#list: &mut ::whimbrel::MessageList<Self>) { #(#adds)* }
        }
    }
}

fn extension_trait(messages: &Messages) -> TokenStream {
    let Messages { process, extension, visibility, .. } = messages;
    let text = format!("The messages of `{0}`, sent through a `ProcessRef<{0}>`.", shown(process));
    let declared = messages.methods.iter().map(|method| {
        let (conditions, attributes, head) = (method.conditions(), method.shown(), sender_head(method));
        let text = (!method.is_documented()).then(|| {
            let text = format!("Sends [`{}`].", method.message);
            quote!(#[doc = #text])
        });
        quote!(#(#conditions)* #text #(#attributes)* #head;)
    });
    let defined = messages.methods.iter().map(|method| {
        let (conditions, head, message) = (method.conditions(), sender_head(method), &method.message);
        let fields = method.arguments.iter().map(|argument| &argument.ident);
        let send = match method.verb {
            Verb::Call => quote!(call),
            Verb::Cast => quote!(cast),
        };
        quote_spanned! {at(method)=>
            #(#conditions)*
            #head { ::whimbrel::#send(self, #message { #(#fields),* }) }
        }
    });
    quote_spanned! {Span::mixed_site()=>
        #[doc = #text]
        #[allow(dead_code, unreachable_pub)]
        #visibility trait #extension { #(#declared)* }
        impl #extension for ::whimbrel::ProcessRef<#process> { #(#defined)* }
    }
}

/// The signature of the extension trait's method, without body or semicolon.
fn sender_head(method: &Method) -> TokenStream {
    let Method { ident, message, .. } = method;
    let parameters = method.arguments.iter().map(|argument| {
        let (ident, ty) = (&argument.ident, &argument.ty);
        quote!(#ident: #ty)
    });
    let outcome = match method.verb {
        Verb::Call => quote!(::whimbrel::Call<#message>),
        Verb::Cast => quote!(::core::result::Result<(), ::whimbrel::CastError>),
    };
    quote_spanned!(at(method)=> fn #ident(&self, #(#parameters),*) -> #outcome)
}

/// A path as a reader writes it.
fn shown(path: &impl ToTokens) -> String {
    path.to_token_stream().to_string().replace(' ', "")
}
