use super::*;
use crate::worker::Message;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The reports of a proxy with these workers. The test's clock runs only while all wait.
fn reports(inboxes: &[UnboundedSender<Message>]) -> (UnboundedReceiver<String>, CancellationToken) {
    let draining = CancellationToken::new();
    let vitals = Vitals {
        connections: ConnectionCounts::new(inboxes),
        endpoints_down: Box::new(|| 1),
        draining: draining.clone(),
    };
    let (sender, received) = unbounded_channel();
    let notify = move |message: &str| drop(sender.send(message.to_owned()));
    tokio::task::spawn_local(report(vitals, Some(Duration::from_secs(30)), notify));
    (received, draining)
}

/// A worker that has this many connections, and answers only while the returned flag is set.
fn worker(connections: usize) -> (UnboundedSender<Message>, std::rc::Rc<std::cell::Cell<bool>>) {
    let (inbox, mut messages) = unbounded_channel();
    let answering = std::rc::Rc::new(std::cell::Cell::new(true));
    let answers = std::rc::Rc::clone(&answering);
    tokio::task::spawn_local(async move {
        let mut unanswered = Vec::new();
        while let Some(Message::CountConnections(answer)) = messages.recv().await {
            match answers.get() {
                true => drop(answer.send(connections)),
                false => unanswered.push(answer),
            }
        }
    });
    (inbox, answering)
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_silent_worker_stops_the_signs_of_life() {
    let ((one, _), (other, answering)) = (worker(40), worker(2));
    let (mut reports, _) = reports(&[one, other]);
    assert_eq!(reports.recv().await.unwrap(), "WATCHDOG=1");
    assert_eq!(reports.recv().await.unwrap(), "STATUS=42 connections, 1 endpoint down");
    assert_eq!(reports.recv().await.unwrap(), "WATCHDOG=1");
    answering.set(false);
    assert_eq!(reports.recv().await.unwrap(), "STATUS=a worker does not answer");
    let silence = tokio::time::timeout(Duration::from_secs(3600), reports.recv()).await;
    assert!(silence.is_err(), "{silence:?}");
    answering.set(true);
    assert_eq!(reports.recv().await.unwrap(), "WATCHDOG=1");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_drain_is_reported_once_and_goes_on_to_be_watched() {
    let (inbox, _) = worker(1);
    let (mut reports, draining) = reports(&[inbox]);
    assert_eq!(reports.recv().await.unwrap(), "WATCHDOG=1");
    assert_eq!(reports.recv().await.unwrap(), "STATUS=1 connection, 1 endpoint down");
    draining.cancel();
    assert_eq!(reports.recv().await.unwrap(), "STOPPING=1");
    let mut signs = 0;
    loop {
        match &*reports.recv().await.unwrap() {
            "WATCHDOG=1" => signs += 1,
            other => break assert_eq!(other, "STATUS=draining: 1 connection, 1 endpoint down"),
        }
    }
    assert!(signs >= 1);
    assert_eq!(reports.recv().await.unwrap(), "WATCHDOG=1");
}
