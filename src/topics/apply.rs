//! Makes a cluster as declared, as far as nothing is taken away by it, and looks again whether it is.

use std::time::{Duration, Instant};

use super::plan::{Plan, Step, names, plan};
use super::{Cluster, TopicsError};
use crate::config::{Config, TopicDeclaration};

/// What became of one step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done {
    pub topic: String,
    pub step: Step,
    /// What Kafka said against it.
    pub outcome: Result<(), String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applied {
    pub done: Vec<Done>,
    /// What still differs, as described after the last step.
    pub left: Plan,
}

impl Applied {
    /// `Ok` when the cluster is as declared now.
    pub fn verdict(&self, waited: Duration) -> Result<(), TopicsError> {
        let failed = self.done.iter().filter(|done| done.outcome.is_err()).count();
        match (failed, self.left.unseen(), self.left.step_count(), self.left.differing()) {
            (1.., ..) => Err(TopicsError::Steps { failed, steps: self.done.len() }),
            (0, unseen @ 1.., ..) => Err(TopicsError::Unseen(unseen)),
            (0, 0, 1.., _) => Err(TopicsError::NotConfirmed { waited }),
            (0, 0, 0, 0) => Ok(()),
            (0, 0, 0, differing) => Err(TopicsError::Drift(differing)),
        }
    }
}

/// Takes every step, one after the other; one that is refused holds no other back. Then describes until the brokers
/// say what was done, which they learn from the controller a moment later.
pub fn apply(cluster: &mut Cluster, config: &Config) -> Result<Applied, TopicsError> {
    const AGAIN: Duration = Duration::from_millis(100);
    let declared = &config.topics.declared;
    let mut done = Vec::new();
    for topic in look(cluster, declared)?.topics {
        for step in topic.steps {
            let outcome = cluster.take(&topic.name, &step)?;
            done.push(Done { topic: topic.name.clone(), step, outcome });
        }
    }
    let all_taken = done.iter().all(|done| done.outcome.is_ok());
    let deadline = Instant::now() + config.topics.timeout;
    loop {
        let left = look(cluster, declared)?;
        if left.step_count() == 0 || !all_taken || Instant::now() > deadline {
            return Ok(Applied { done, left });
        }
        std::thread::park_timeout(AGAIN);
    }
}

fn look(cluster: &mut Cluster, declared: &[TopicDeclaration]) -> Result<Plan, TopicsError> {
    Ok(plan(declared, &cluster.observe(&names(declared))?))
}
