//! Names in scope that a careless expansion would trip over. It is a test that this compiles.

#![allow(dead_code)]

struct Call;
struct Handler;
struct Message;
struct Option;
struct Result;
struct Wire;
trait Speaks {}
mod core {}
mod serde {}
fn call() {}
fn cast() {}

macro_rules! process {
    ($name:ident) => {
        pub(super) struct $name;

        impl whimbrel::Process for $name {
            const KIND: &'static str = stringify!($name);
            type Args = ();

            async fn init(
                (): (),
                _cx: &mut whimbrel::Context<Self>,
            ) -> ::core::result::Result<Self, whimbrel::ExitReason> {
                Ok(Self)
            }
        }
    };
    ($name:ident speaks as $ty:ty) => {
        process!($name);

        #[whimbrel::handlers(pub(self))]
        impl $ty {
            #[call]
            async fn ask(&mut self, n: u8) -> u8 {
                n
            }
        }
    };
}

process!(ByMacro speaks as ByMacro);
process!(Hostile);
process!(Silent);

mod elsewhere {
    use whimbrel::handlers;

    #[handlers(pub(crate))]
    impl super::Hostile {
        #[call]
        async fn ask(&mut self, context: &mut whimbrel::Context<Self>, message: u8, cx: u8, list: u8) -> u8 {
            let _ = context;
            message + cx + list
        }

        #[cast]
        fn handle(&mut self) {}

        #[cast]
        fn messages(&mut self) {}

        #[cast]
        fn init(&mut self) {}
    }

    #[handlers]
    impl super::Silent {}
}
