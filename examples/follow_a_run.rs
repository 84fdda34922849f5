//! Follows one run of an agent: prints its events, and goes on where it was when it is started again.
//!
//! `cargo run --release --example follow_a_run -- ws://127.0.0.1:3002 THREAD [CURSOR_FILE]`

#![allow(clippy::print_stdout, reason = "printing is what it is for")]

use dashstream::client::proto::dash_stream_message::Message;
use dashstream::client::{Client, Event, FileStore, Flow, Run, Start};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(thread)) = (arguments.next(), arguments.next()) else {
        return Err("give the address of a gateway and the id of a thread".into());
    };
    let file = arguments.next().unwrap_or_else(|| "follow_a_run.cursor".to_owned());
    let run = Run { thread, ..Run::default() };
    let mut client = Client::builder(&url).start(Start::Run(run)).store(FileStore::new(file)).build()?;
    client.run(|event| {
        match event {
            Event::Record(record) => match record.message() {
                Ok(message) => println!("{} {}", record.offset, message.message.map_or("nothing".to_owned(), line)),
                Err(error) => println!("{} cannot be read: {error}", record.offset),
            },
            Event::Gap { first, last, reason, .. } => println!("{first} to {last} are lost: {reason}"),
            Event::Truncated { wanted, oldest, .. } => println!("{wanted} to {oldest} are gone"),
            Event::Live { replayed } => println!("-- {replayed} so far, now live"),
            Event::Disconnected { why, retry_in } => println!("-- {why}; again in {retry_in:?}"),
            Event::StreamChanged { .. } => println!("-- the topic was made again"),
            _ => {}
        }
        Ok::<_, std::convert::Infallible>(Flow::Continue)
    })?;
    Ok(())
}

fn line(message: Message) -> String {
    match message {
        Message::Event(event) => format!("{} at {}", event.event_type().as_str_name(), event.node_id),
        Message::EventBatch(batch) => format!("{} events", batch.events.len()),
        Message::TokenChunk(chunk) => format!("says {:?}", chunk.text),
        Message::ToolExecution(tool) => format!("uses {}", tool.tool_name),
        Message::Error(error) => format!("fails: {}", error.message),
        Message::StateDiff(diff) => format!("changes its state {} times", diff.operations.len()),
        Message::Checkpoint(_) => "checkpoint".to_owned(),
        Message::Metrics(_) => "metrics".to_owned(),
        Message::ExecutionTrace(trace) => format!("trace of {} nodes", trace.nodes_executed.len()),
    }
}
