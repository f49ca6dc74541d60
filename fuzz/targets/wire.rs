//! Bytes of a stranger or a peer, through every decoder: none panics, and what one makes of them stays what it is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use whimbrel_core::base::limits::FRAME_BYTES_MAX;
use whimbrel_core::wire::{Control, Image, Names};
use whimbrel_core::wire::frame::{self, FrameKind, MessageFrame};
use whimbrel_core::wire::hello::{Greeting, UNPROVEN_BYTES_MAX};

const MESSAGES: [FrameKind; 4] =
    [FrameKind::Message, FrameKind::Publish, FrameKind::Signal, FrameKind::Reply];
const GREETINGS: [FrameKind; 4] =
    [FrameKind::Hello, FrameKind::Proof, FrameKind::Welcome, FrameKind::Refusal];

fuzz_target!(|bytes: &[u8]| {
    for limit in [UNPROVEN_BYTES_MAX, FRAME_BYTES_MAX] {
        if let Ok(Some(raw)) = frame::split(bytes, limit) {
            assert!(raw.taken <= bytes.len() && raw.body.len() < raw.taken);
            read(raw.body);
        }
    }
    read(bytes);
});

fn read(body: &[u8]) {
    let _ = frame::read_ack(body);
    if let Ok(control) = Control::from_bytes(body) {
        assert_eq!(Control::from_bytes(&control.to_bytes()).ok(), Some(control));
    }
    if let Ok(image) = Image::from_bytes(body) {
        assert_eq!(Image::from_bytes(&image.to_bytes()).ok(), Some(image));
    }
    let mut names = Names::default();
    for kind in MESSAGES {
        if let Ok(message) = MessageFrame::from_body(kind, body, &mut names) {
            let again = message.to_body();
            assert_eq!(MessageFrame::from_body(kind, again.as_slice(), &mut names).ok(), Some(message));
        }
    }
    for kind in GREETINGS {
        let _ = Greeting::from_body(kind, body);
    }
}
