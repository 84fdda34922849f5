//! Makes a cluster as declared, as far as nothing is taken away by it, and looks again whether it is.

use std::time::{Duration, Instant};

use super::plan::{Plan, Step, names, plan};
use super::{Cluster, TopicsError};
use crate::config::{Config, TopicDeclaration};

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    Done,
    /// What Kafka said against it.
    Refused(String),
    /// Nobody knows whether it is done.
    Unanswered,
}

/// What became of one step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    pub topic: String,
    pub step: Step,
    pub outcome: Outcome,
}

#[derive(Debug)]
pub struct Applied {
    pub done: Vec<Done>,
    /// What still differs, as described after the last step; or why nobody can say, and steps may be missing in `done`.
    pub left: Result<Plan, TopicsError>,
}

impl Applied {
    /// `Ok` when the cluster is as declared now.
    pub fn verdict(self, waited: Duration) -> Result<(), TopicsError> {
        let left = self.left?;
        let failed = self.done.iter().filter(|done| done.outcome != Outcome::Done).count();
        match (failed, left.unseen(), left.step_count(), left.differing()) {
            (1.., ..) => Err(TopicsError::Steps { failed, steps: self.done.len() }),
            (0, unseen @ 1.., ..) => Err(TopicsError::Unseen(unseen)),
            (0, 0, 1.., _) => Err(TopicsError::NotConfirmed { waited }),
            (0, 0, 0, 0) => Ok(()),
            (0, 0, 0, differing) => Err(TopicsError::Drift(differing)),
        }
    }
}

/// Takes every step, one after the other; one that is refused holds no other back, one that is not answered holds back
/// all that come after it. Then describes until the brokers say what was done, which they learn from the controller a
/// moment later.
///
/// # Errors
/// Nothing was done.
pub fn apply(cluster: &mut Cluster, config: &Config) -> Result<Applied, TopicsError> {
    let declared = &config.topics.declared;
    let planned = look(cluster, declared)?;
    let (done, silent) = take_all(planned, |topic, step| cluster.take(topic, step));
    let left = match silent {
        Some(why) => Err(why),
        None => {
            let all_taken = done.iter().all(|done| done.outcome == Outcome::Done);
            look_again(cluster, declared, all_taken.then_some(config.topics.timeout))
        }
    };
    Ok(Applied { done, left })
}

/// What became of each step, and why no more of them were taken.
fn take_all(
    planned: Plan,
    mut take: impl FnMut(&str, &Step) -> Result<Result<(), String>, TopicsError>,
) -> (Vec<Done>, Option<TopicsError>) {
    let mut done = Vec::new();
    for topic in planned.topics {
        for step in topic.steps {
            let (outcome, silent) = match take(&topic.name, &step) {
                Ok(Ok(())) => (Outcome::Done, None),
                Ok(Err(why)) => (Outcome::Refused(why), None),
                Err(why) => (Outcome::Unanswered, Some(why)),
            };
            done.push(Done { topic: topic.name.clone(), step, outcome });
            if silent.is_some() {
                return (done, silent);
            }
        }
    }
    (done, None)
}

/// What is left, described so long until it is nothing, if that is to be expected within a time.
fn look_again(
    cluster: &mut Cluster,
    declared: &[TopicDeclaration],
    expected_within: Option<Duration>,
) -> Result<Plan, TopicsError> {
    const AGAIN: Duration = Duration::from_millis(100);
    let began = Instant::now();
    loop {
        let left = look(cluster, declared)?;
        if left.step_count() == 0 || expected_within.is_none_or(|limit| began.elapsed() > limit) {
            return Ok(left);
        }
        std::thread::park_timeout(AGAIN);
    }
}

fn look(cluster: &mut Cluster, declared: &[TopicDeclaration]) -> Result<Plan, TopicsError> {
    Ok(plan(declared, &cluster.observe(&names(declared))?))
}

#[cfg(test)]
mod tests {
    use super::super::plan::TopicPlan;
    use super::*;

    /// A request that was not answered took the list of all that was done before with it.
    #[test]
    fn silence_in_the_middle_keeps_what_was_done_before() {
        let steps = || (2..=3).map(|declared| Step::AddPartitions { has: 1, declared }).collect();
        let topic = |name: &str| TopicPlan { name: name.to_owned(), steps: steps(), obstacles: Vec::new() };
        let mut asked = 0;
        let (done, silent) = take_all(Plan { topics: vec![topic("a"), topic("b")] }, |_, _| {
            asked += 1;
            match asked {
                1 => Ok(Ok(())),
                2 => Ok(Err("no".to_owned())),
                _ => Err(TopicsError::NoTopic("stands for silence".to_owned())),
            }
        });
        let outcomes: Vec<_> = done.iter().map(|done| (done.topic.as_str(), &done.outcome)).collect();
        let refused = Outcome::Refused("no".to_owned());
        assert_eq!(outcomes, [("a", &Outcome::Done), ("a", &refused), ("b", &Outcome::Unanswered)]);
        assert_eq!(asked, 3, "what comes after it is not tried");
        let applied = Applied { done, left: Err(silent.expect("it was silent")) };
        assert!(matches!(applied.verdict(Duration::ZERO), Err(TopicsError::NoTopic(_))));
    }
}
