use super::*;
use crate::{
    body::{MessageStream, collect},
    frame::framed,
    testing::{Script, ready},
};

fn room(connection: usize, worker: usize) -> MessageBudget {
    let bounds = BufferLimits { connection, worker };
    MessageBudget { limit: 4096, bounds, buffered: BufferAccount::default() }
}

#[test]
fn a_message_is_counted_until_it_is_dropped() {
    let room = room(16 << 10, 16 << 10);
    let body = Script::default().data([1; 1000]).data([2; 1000]).body();
    let bytes = ready(collect(body, &room)).unwrap();
    let (held, _) = room.buffered.bytes();
    assert!((2000..=4096).contains(&held), "{held}");
    let copy = bytes.clone();
    drop(bytes);
    assert_eq!(room.buffered.bytes(), (held, held));
    drop(copy);
    assert_eq!(room.buffered.bytes(), (0, 0));
    let broken = Script::default().data([1; 1000]).breaks().body();
    assert!(ready(collect(broken, &room)).is_err());
    assert_eq!(room.buffered.bytes(), (0, 0));
}

#[test]
fn messages_are_counted_while_they_are_held() {
    let room = room(64 << 10, 64 << 10);
    let parts = framed(0, &[7; 3000]);
    let body = Script::default().data(&parts[..1500]).data(&parts[1500..]).body();
    let mut messages = MessageStream::new(body, &room);
    let frame = ready(messages.next()).unwrap().unwrap();
    assert!(room.buffered.bytes().0 >= 3000);
    assert_eq!(frame.message.len(), 3000);
    drop(messages);
    assert_eq!(room.buffered.bytes(), (0, 0));
}

#[test]
fn errors_at_both_memory_limits_name_the_setting() {
    for (room, words) in [
        (room(3000, 8000), "`max_buffered_per_connection`: send fewer large messages at a time"),
        (room(8000, 3000), "`max_buffered`: try again later"),
    ] {
        let held = room.framed(0, &[7; 2000]).unwrap();
        let body = || Script::default().data([7; 2000]).body();
        let told = ready(collect(body(), &room)).unwrap_err();
        assert_eq!(told.code, Code::ResourceExhausted);
        assert!(told.message.contains(words), "{}", told.message);
        let framed = Script::default().data(framed(0, &[7; 2000])).body();
        assert_eq!(ready(MessageStream::new(framed, &room).next()).unwrap_err(), told);
        assert_eq!(room.framed(0, &[7; 2000]).unwrap_err(), told);
        assert_eq!(room.charge(vec![7; 2000]).unwrap_err(), told);
        drop(held);
        assert!(ready(collect(body(), &room)).is_ok());
    }
}

#[test]
fn what_is_long_is_read_on_another_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let here = std::thread::current().id();
    let read_by = |len| runtime.block_on(offload(len, || std::thread::current().id())).unwrap();
    assert_eq!(read_by(OFFLOAD_BYTES), here);
    assert_ne!(read_by(OFFLOAD_BYTES + 1), here);
}
