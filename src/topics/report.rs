//! Plans and topics for people, one line each, and for scripts, as JSON with Kafka's own names. Pure.

use serde_json::{Value, json};

use super::apply::{Applied, Done, Outcome};
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
        Obstacle::ReplicationFactor { fewest, most, declared } => {
            let is = if fewest == most { json!(most) } else { json!({ "fewest": fewest, "most": most }) };
            plain("replication_factor", is, json!(declared))
        }
        Obstacle::Lowers { setting, is, declared } => {
            Parts { what: "setting", setting: Some(setting.kafka_name()), is: json!(is), declared: json!(declared) }
        }
        Obstacle::InsyncBeyondCopies { copies, declared } => {
            Parts { what: "copies", setting: Some("min.insync.replicas"), is: json!(copies), declared: json!(declared) }
        }
        Obstacle::Unseen(_) => plain("rights", Value::Null, Value::Null),
    }
}

/// Where nothing could be described afterwards, what was done stands alone.
pub fn applied_text(applied: &Applied) -> String {
    let mut text = String::new();
    for Done { topic, step, outcome } in &applied.done {
        match outcome {
            Outcome::Done => text.push_str(&format!("{topic}: done: {step}\n")),
            Outcome::Refused(why) => text.push_str(&format!("{topic}: refused: {why} (wanted: {step})\n")),
            Outcome::Unanswered => {
                text.push_str(&format!("{topic}: not answered, so it may be done or not (wanted: {step})\n"));
            }
        }
    }
    let left = applied.left.iter().flat_map(|left| &left.topics);
    text.extend(left.flat_map(lines).map(|line| line + "\n"));
    text
}

pub fn applied_json(applied: &Applied) -> Value {
    let done = applied.done.iter().map(|Done { topic, step, outcome }| {
        let mut value = difference(step_parts(step), step.to_string(), *outcome == Outcome::Done);
        value["topic"] = json!(topic);
        value["refused"] = match outcome {
            Outcome::Refused(why) => json!(why),
            Outcome::Done | Outcome::Unanswered => Value::Null,
        };
        if *outcome == Outcome::Unanswered {
            // Neither yes nor no.
            value["apply"] = Value::Null;
        }
        value
    });
    let left = applied.left.as_ref().ok().map(plan_json);
    json!({ "done": done.collect::<Vec<_>>(), "left": left })
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
    if found.replication_factor_most != found.replication_factor {
        text.push_str(&format!(" to {}", found.replication_factor_most));
    }
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
                "replication_factor_most": found.replication_factor_most,
                "settings": settings.collect::<serde_json::Map<_, _>>(),
            })
        }
    });
    json!({ "brokers": state.brokers, "topics": topics.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::super::TopicsError;
    use super::*;
    use crate::config::TopicSetting;

    #[test]
    fn what_was_done_is_told_when_the_cluster_falls_silent() {
        let set = |declared: &str| Step::Set {
            setting: TopicSetting::Retention,
            is: Some("1000".to_owned()),
            declared: declared.to_owned(),
        };
        let one = |declared, outcome| Done { topic: "agents".to_owned(), step: set(declared), outcome };
        let done = vec![
            one("2000", Outcome::Done),
            one("3000", Outcome::Refused("no".to_owned())),
            one("4000", Outcome::Unanswered),
        ];
        let applied = Applied { done, left: Err(TopicsError::NoTopic("stands for silence".to_owned())) };
        assert_eq!(
            applied_text(&applied),
            "agents: done: retention is 1s; set it to 2s\n\
             agents: refused: no (wanted: retention is 1s; set it to 3s)\n\
             agents: not answered, so it may be done or not (wanted: retention is 1s; set it to 4s)\n"
        );
        let json = applied_json(&applied);
        let parts = |key: &str| json["done"].as_array().expect("a list").iter().map(|one| one[key].clone()).collect();
        let (apply, refused): (Vec<Value>, Vec<Value>) = (parts("apply"), parts("refused"));
        assert_eq!(
            (apply, refused),
            (vec![json!(true), json!(false), json!(null)], vec![json!(null), json!("no"), json!(null)])
        );
        assert_eq!(json["left"], Value::Null);
    }
}
