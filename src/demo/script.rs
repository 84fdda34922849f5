//! What a run will do, step by step: a walk through its agent's graph with every choice already made by the dice.
//!
//! Deliberately absent: messages, time and state (`run`).

use super::agents::{Agent, Node, Stage, Tool, Work};
use super::dice::Dice;
use super::manifest::{END, START};
use super::prose::Voice;

/// A node's name.
pub type NodeId = &'static str;

/// One thing that a run does; most send one message each.
#[derive(Debug)]
pub enum Step {
    GraphStart,
    Edge {
        from: NodeId,
        to: NodeId,
    },
    Branch {
        from: NodeId,
        to: NodeId,
        when: &'static str,
    },
    NodeStart(NodeId),
    Thinking(NodeId, u64),
    Progress(NodeId, u64),
    Substep(NodeId, &'static str),
    Warning(NodeId),
    /// Asks a model; repeats itself until the answer is out.
    Speak(Box<Speech>),
    /// Calls a tool; repeats itself until it has answered.
    Call(Box<Call>),
    Interrupt(NodeId),
    Resume(NodeId),
    Diff(NodeId),
    Checkpoint(NodeId),
    NodeEnd(NodeId),
    ForkStart {
        at: NodeId,
        branches: Vec<NodeId>,
    },
    /// Steps that run side by side; each lane is a stack, its last step is the next.
    Lanes(Vec<Vec<Step>>),
    ForkEnd {
        at: NodeId,
        branches: u64,
    },
    Quality(NodeId),
    /// The node fails for good.
    Failure(NodeId),
    NodeFailed {
        node: NodeId,
        message: &'static str,
    },
    GraphEnd,
    GraphError(NodeId),
}

/// A model call.
#[derive(Debug)]
pub struct Speech {
    pub node: NodeId,
    pub voice: &'static Voice,
    /// Times that the call is refused before it works.
    pub refusals: u64,
    pub request_id: String,
    pub started_us: i64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub chunks: u32,
    /// What is said; empty until the model was asked.
    pub text: String,
    pub said: usize,
}

/// A tool call.
#[derive(Debug)]
pub struct Call {
    pub node: NodeId,
    pub tool: Tool,
    /// Attempts that fail before the one that decides.
    pub failures: u64,
    /// It fails for good.
    pub doomed: bool,
    pub call_id: String,
    pub stage: CallStage,
    pub started_us: i64,
    pub retries: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallStage {
    Requested,
    Announced,
    Started,
    Waiting,
    Ended,
}

/// Percent of runs that fail, of model calls refused once, of tool calls that need another attempt.
const FAILING_PERCENT: u64 = 9;
const REFUSED_PERCENT: u64 = 6;
const RETRIED_PERCENT: u64 = 12;

/// The steps of a new run, the next one last.
pub fn script(agent: &'static Agent, dice: &mut Dice) -> Vec<Step> {
    let mut writer = Writer { dice, steps: vec![Step::GraphStart], heads: vec![START] };
    writer.stages(agent.graph, END);
    let at = writer.at();
    let mut steps = writer.steps;
    if !(dice.chance(FAILING_PERCENT) && fail(&mut steps, dice)) {
        if dice.chance(70) {
            steps.push(Step::Quality(at));
        }
        steps.push(Step::GraphEnd);
    }
    steps.reverse();
    steps
}

/// Cuts the script off inside one of its nodes; false if it has none that stands alone.
fn fail(steps: &mut Vec<Step>, dice: &mut Dice) -> bool {
    let starts: Vec<(usize, NodeId)> = steps
        .iter()
        .enumerate()
        .filter_map(|(index, step)| match step {
            Step::NodeStart(node) => Some((index, *node)),
            _ => None,
        })
        .collect();
    let Some((index, node)) = starts.get(dice.below(starts.len() as u64) as usize) else { return false };
    let (index, node) = (*index, *node);
    let mut tail = steps.split_off(index + 1);
    // The node still does what it does, up to its end; a tool that it calls is what fails.
    let end = tail.iter().position(|step| matches!(step, Step::Diff(_) | Step::NodeEnd(_))).unwrap_or(0);
    tail.truncate(end);
    for step in &mut tail {
        if let Step::Call(call) = step {
            call.failures = 2;
            call.doomed = true;
        }
    }
    steps.append(&mut tail);
    steps.push(Step::Failure(node));
    steps.push(Step::GraphError(node));
    true
}

struct Writer<'a> {
    dice: &'a mut Dice,
    steps: Vec<Step>,
    /// Where the run stands: one node, or all of a fork.
    heads: Vec<NodeId>,
}

impl Writer<'_> {
    fn at(&self) -> NodeId {
        self.heads.last().copied().unwrap_or(START)
    }

    /// Writes `stages`; `after` is the node that comes behind them.
    fn stages(&mut self, stages: &'static [Stage], after: NodeId) {
        for (index, stage) in stages.iter().enumerate() {
            let next = stages.get(index + 1).and_then(first_node).unwrap_or(after);
            match stage {
                Stage::Node(node) => {
                    self.go(node.id);
                    let mut steps = self.node(node);
                    self.steps.append(&mut steps);
                }
                Stage::Fork(nodes) => self.fork(nodes),
                Stage::Branch(arms) => {
                    let mut ticket = self.dice.below(arms.iter().map(|arm| arm.weight).sum());
                    for arm in *arms {
                        if ticket < arm.weight {
                            let to = arm.stages.first().and_then(first_node).unwrap_or(next);
                            self.steps.push(Step::Branch { from: self.at(), to, when: arm.when });
                            self.stages(arm.stages, next);
                            break;
                        }
                        ticket -= arm.weight;
                    }
                }
                Stage::Again { percent, when, stages } => {
                    self.stages(stages, next);
                    for _ in 0..2 {
                        let Some(to) = stages.first().and_then(first_node).filter(|_| self.dice.chance(*percent))
                        else {
                            break;
                        };
                        self.steps.push(Step::Branch { from: self.at(), to, when });
                        self.stages(stages, next);
                    }
                }
            }
        }
    }

    fn go(&mut self, to: NodeId) {
        // A branch has just said where it goes.
        let told = matches!(self.steps.last(), Some(Step::Branch { to: told, .. }) if *told == to);
        for from in std::mem::replace(&mut self.heads, vec![to]) {
            if from != START && !told {
                self.steps.push(Step::Edge { from, to });
            }
        }
    }

    fn fork(&mut self, nodes: &'static [Node]) {
        let at = self.at();
        self.heads = nodes.iter().map(|node| node.id).collect();
        self.steps.push(Step::ForkStart { at, branches: self.heads.clone() });
        let mut lanes = Vec::with_capacity(nodes.len());
        for node in nodes {
            let mut lane = self.node(node);
            if at != START {
                lane.insert(0, Step::Edge { from: at, to: node.id });
            }
            lane.reverse();
            lanes.push(lane);
        }
        self.steps.push(Step::Lanes(lanes));
        self.steps.push(Step::ForkEnd { at, branches: nodes.len() as u64 });
    }

    fn node(&mut self, node: &'static Node) -> Vec<Step> {
        let id = node.id;
        let dice = &mut *self.dice;
        let mut steps = vec![Step::NodeStart(id)];
        if dice.chance(4) {
            steps.push(Step::Warning(id));
        }
        match &node.work {
            Work::Think(voice) => {
                steps.extend((1..=dice.below(3)).map(|step| Step::Thinking(id, step)));
                steps.push(Step::Speak(Box::new(speech(id, voice, dice))));
                if dice.chance(25) {
                    steps.push(Step::Quality(id));
                }
            }
            Work::Call(tool) => {
                for _ in 0..dice.between(1, 2) {
                    steps.push(Step::Call(Box::new(call(id, *tool, dice))));
                }
            }
            Work::Compute => {
                let parts = dice.between(4, 8);
                for part in 1..=parts {
                    if dice.chance(30) {
                        let name = dice.pick(&["read", "check_types", "deduplicate", "join", "aggregate", "write"]);
                        steps.push(Step::Substep(id, name));
                    }
                    steps.push(Step::Progress(id, part * 100 / parts));
                }
            }
            Work::Approve => steps.extend([Step::Interrupt(id), Step::Resume(id)]),
        }
        steps.push(Step::Diff(id));
        if dice.chance(35) {
            steps.push(Step::Checkpoint(id));
        }
        steps.push(Step::NodeEnd(id));
        steps
    }
}

/// The node with which a stage begins.
fn first_node(stage: &'static Stage) -> Option<NodeId> {
    match stage {
        Stage::Node(node) => Some(node.id),
        Stage::Fork(nodes) => nodes.first().map(|node| node.id),
        Stage::Again { stages, .. } => stages.first().and_then(first_node),
        Stage::Branch(arms) => arms.iter().find_map(|arm| arm.stages.first().and_then(first_node)),
    }
}

fn speech(node: NodeId, voice: &'static Voice, dice: &mut Dice) -> Speech {
    Speech {
        node,
        voice,
        refusals: u64::from(dice.chance(REFUSED_PERCENT)),
        request_id: format!("req-{:012x}", dice.below(1 << 48)),
        started_us: 0,
        input_tokens: dice.between(180, 3_800),
        output_tokens: 0,
        chunks: 0,
        text: String::new(),
        said: 0,
    }
}

fn call(node: NodeId, tool: Tool, dice: &mut Dice) -> Call {
    Call {
        node,
        tool,
        failures: u64::from(dice.chance(RETRIED_PERCENT)),
        doomed: false,
        call_id: format!("call-{:010x}", dice.below(1 << 40)),
        stage: CallStage::Requested,
        started_us: 0,
        retries: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::agents::AGENTS;

    /// Nodes started, ended and failed, lanes included.
    fn count(steps: &[Step], counts: &mut [i64; 3]) {
        for step in steps {
            match step {
                Step::NodeStart(_) => counts[0] += 1,
                Step::NodeEnd(_) => counts[1] += 1,
                Step::Failure(_) => counts[2] += 1,
                Step::Lanes(lanes) => lanes.iter().for_each(|lane| count(lane, counts)),
                _ => {}
            }
        }
    }

    #[test]
    fn every_script_ends_every_node_that_it_starts() {
        let mut dice = Dice::new(7);
        let mut failed = 0;
        for agent in AGENTS {
            for _ in 0..200 {
                let steps = script(agent, &mut dice);
                let mut counts = [0; 3];
                count(&steps, &mut counts);
                assert!(counts[0] >= 1 && counts[0] == counts[1] + counts[2], "{counts:?}");
                assert!(counts[2] <= 1);
                failed += counts[2];
                assert!(matches!(steps.last(), Some(Step::GraphStart)));
                match steps.first() {
                    Some(Step::GraphEnd) => assert_eq!(counts[2], 0),
                    Some(Step::GraphError(_)) => assert_eq!(counts[2], 1),
                    other => panic!("ends with {other:?}"),
                }
                assert!(steps.len() < 200, "bounded: {}", steps.len());
            }
        }
        assert!((60..180).contains(&failed), "about {FAILING_PERCENT} percent of 1200: {failed}");
    }

    #[test]
    fn repetitions_and_branches_say_where_they_lead() {
        let mut dice = Dice::new(11);
        for agent in AGENTS {
            for _ in 0..100 {
                let mut steps = script(agent, &mut dice);
                steps.reverse();
                for pair in steps.windows(2) {
                    if let [Step::Branch { to, .. }, Step::NodeStart(node)] = pair {
                        assert_eq!(to, node);
                    }
                }
            }
        }
    }
}
