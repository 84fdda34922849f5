//! Plans and topics for people, one line each, and for scripts, as JSON with Kafka's own names. Pure.

use serde_json::{Value, json};

use super::apply::Applied;
use super::plan::{ClusterState, FoundTopic, Obstacle, Plan, Step, TopicPlan, TopicState};

/// Each difference as one line that begins with its topic, or that there is none.
pub fn lines(topic: &TopicPlan) -> Vec<String> {
    let name = &topic.name;
    if topic.is_as_declared() {
        return vec![format!("{name}: as declared")];
    }
    let steps = topic.steps.iter().map(|step| format!("{name}: {step}"));
    steps.chain(topic.obstacles.iter().map(|obstacle| format!("{name}: {obstacle}"))).collect()
}

pub fn plan_text(plan: &Plan) -> String {
    let mut text: String = plan.topics.iter().flat_map(lines).map(|line| line + "\n").collect();
    let (steps, left) = (plan.step_count(), plan.topics.iter().map(|topic| topic.obstacles.len()).sum::<usize>());
    if steps + left > 0 {
        text.push_str(&format!("{steps} to do with `dashstream topics apply`, {left} that it leaves alone\n"));
    }
    text
}

pub fn plan_json(plan: &Plan) -> Value {
    json!({ "differing": plan.differing(), "topics": plan.topics.iter().map(topic_json).collect::<Vec<_>>() })
}

fn topic_json(topic: &TopicPlan) -> Value {
    let steps = topic.steps.iter().map(|step| difference(step_parts(step), step.to_string(), true));
    let obstacles = topic.obstacles.iter().map(|one| difference(obstacle_parts(one), one.to_string(), false));
    json!({
        "topic": topic.name,
        "as_declared": topic.is_as_declared(),
        "differences": steps.chain(obstacles).collect::<Vec<_>>(),
    })
}

/// What differs, the setting if it is one, what is there and what is declared.
struct Parts {
    what: &'static str,
    setting: Option<&'static str>,
    is: Value,
    declared: Value,
}

fn difference(parts: Parts, text: String, applied: bool) -> Value {
    let Parts { what, setting, is, declared } = parts;
    json!({ "what": what, "setting": setting, "is": is, "declared": declared, "apply": applied, "text": text })
}

fn step_parts(step: &Step) -> Parts {
    match step {
        Step::Create(declared) => {
            Parts { what: "missing", setting: None, is: Value::Null, declared: declared.to_json() }
        }
        Step::Set { setting, is, declared } => {
            Parts { what: "setting", setting: Some(setting.kafka_name()), is: json!(is), declared: json!(declared) }
        }
        Step::AddPartitions { has, declared } => {
            Parts { what: "partitions", setting: None, is: json!(has), declared: json!(declared) }
        }
    }
}

fn obstacle_parts(obstacle: &Obstacle) -> Parts {
    let plain = |what, is, declared| Parts { what, setting: None, is, declared };
    match obstacle {
        Obstacle::TooFewBrokers { declared, brokers } => plain("brokers", json!(brokers), json!(declared)),
        Obstacle::FewerPartitions { has, declared } => plain("partitions", json!(has), json!(declared)),
        Obstacle::ReplicationFactor { has, declared } => plain("replication_factor", json!(has), json!(declared)),
        Obstacle::Lowers { setting, is, declared } => {
            Parts { what: "setting", setting: Some(setting.kafka_name()), is: json!(is), declared: json!(declared) }
        }
        Obstacle::InsyncBeyondCopies { copies, declared } => {
            Parts { what: "copies", setting: Some("min.insync.replicas"), is: json!(copies), declared: json!(declared) }
        }
        Obstacle::Unseen(_) => plain("rights", Value::Null, Value::Null),
    }
}

pub fn applied_text(applied: &Applied) -> String {
    let mut text = String::new();
    for done in &applied.done {
        let topic = &done.topic;
        match &done.outcome {
            Ok(()) => text.push_str(&format!("{topic}: done: {}\n", done.step)),
            Err(why) => text.push_str(&format!("{topic}: refused: {why} (wanted: {})\n", done.step)),
        }
    }
    text.extend(applied.left.topics.iter().flat_map(lines).map(|line| line + "\n"));
    text
}

pub fn applied_json(applied: &Applied) -> Value {
    let done = applied.done.iter().map(|done| {
        let mut value = difference(step_parts(&done.step), done.step.to_string(), done.outcome.is_ok());
        value["topic"] = json!(done.topic);
        value["refused"] = json!(done.outcome.as_ref().err());
        value
    });
    json!({ "done": done.collect::<Vec<_>>(), "left": plan_json(&applied.left) })
}

pub fn state_text(state: &ClusterState) -> String {
    let mut text = format!("brokers: {}\n", state.brokers);
    for (name, topic) in &state.topics {
        match topic {
            TopicState::Missing => text.push_str(&format!("{name}: does not exist\n")),
            TopicState::Unseen(why) => text.push_str(&format!("{name}: {why}\n")),
            TopicState::Found(found) => text.push_str(&found_text(name, found)),
        }
    }
    text
}

fn found_text(name: &str, found: &FoundTopic) -> String {
    let mut text = format!("{name}: partitions = {}", found.partitions);
    if found.leaderless > 0 {
        text.push_str(&format!(" ({} without a leader)", found.leaderless));
    }
    text.push_str(&format!(", replication_factor = {}", found.replication_factor));
    for (setting, value) in found.declarable() {
        text.push_str(&format!(", {} = {}", setting.key(), setting.shown(&value)));
    }
    text + "\n"
}

pub fn state_json(state: &ClusterState) -> Value {
    let topics = state.topics.iter().map(|(name, topic)| match topic {
        TopicState::Missing => json!({ "topic": name, "exists": false }),
        TopicState::Unseen(why) => json!({ "topic": name, "exists": null, "text": why }),
        TopicState::Found(found) => {
            let settings = found.declarable().map(|(setting, value)| (setting.kafka_name().to_owned(), json!(value)));
            json!({
                "topic": name,
                "exists": true,
                "partitions": found.partitions,
                "leaderless": found.leaderless,
                "replication_factor": found.replication_factor,
                "settings": settings.collect::<serde_json::Map<_, _>>(),
            })
        }
    });
    json!({ "brokers": state.brokers, "topics": topics.collect::<Vec<_>>() })
}
