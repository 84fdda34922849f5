//! Tokens and costs of everything that is read, by run, node, model and tenant; nothing is kept but the sums.

use std::collections::{BTreeMap, HashMap};

use crate::wire::proto::DashStreamMessage;

use super::calls::{Calls, ModelCall};
use super::life::Life;
use super::limits::ROWS_MAX;
use super::note::Note;
use super::prices::{Money, Prices};
use super::runs::RunId;
use super::told::{Owner, Place, Told, tell};

/// What rows stand for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum By {
    Run,
    Node,
    Model,
    Tenant,
}

impl By {
    pub const ALL: [Self; 4] = [Self::Run, Self::Node, Self::Model, Self::Tenant];

    pub fn label(self) -> &'static str {
        match self {
            By::Run => "run",
            By::Node => "node",
            By::Model => "model",
            By::Tenant => "tenant",
        }
    }
}

/// A sum of calls.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sum {
    pub calls: u64,
    pub input: u64,
    pub output: u64,
    /// Of the calls that have a price.
    pub cost: Money,
    pub unpriced: u64,
}

impl Sum {
    pub fn add(&mut self, call: &ModelCall, prices: &Prices) {
        self.calls += 1;
        self.input = self.input.saturating_add(call.input);
        self.output = self.output.saturating_add(call.output);
        match prices.of(call.model.as_deref().unwrap_or_default()) {
            Some(price) => self.cost = self.cost.plus(price.of(call.input, call.output)),
            None => self.unpriced += 1,
        }
    }

    /// In all digits; `None` where no call has a price.
    pub fn known_cost(&self) -> Option<String> {
        (self.calls > self.unpriced).then(|| self.cost.exact())
    }

    pub fn tokens(&self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

pub const OTHERS: &str = "(others)";
pub const NO_MODEL: &str = "(no model)";
pub const NO_NODE: &str = "(no node)";

/// What a row sums. Runs are told apart by what producers wrote, however alike they look when shown.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Row {
    Run(RunId),
    Node(String),
    Model(String),
    Tenant(String),
    /// What is beyond [`ROWS_MAX`].
    Others,
}

impl Row {
    pub fn name(&self) -> String {
        match self {
            Row::Run(id) => id.to_string(),
            Row::Node(name) | Row::Model(name) | Row::Tenant(name) => name.clone(),
            Row::Others => OTHERS.to_owned(),
        }
    }
}

pub struct Costs {
    by: By,
    prices: Prices,
    calls: Calls,
    /// The run of each number that `calls` knows.
    runs: Vec<RunId>,
    current: HashMap<Owner, (usize, Life)>,
    rows: BTreeMap<Row, Sum>,
    total: Sum,
    rows_left_out: u64,
    unpriced: BTreeMap<String, u64>,
    nameless: u64,
}

/// What was summed.
#[derive(Clone, PartialEq, Debug)]
pub struct CostTable {
    /// The dearest first, then the most tokens, then by name.
    pub rows: Vec<(Row, Sum)>,
    pub total: Sum,
    pub notes: Vec<Note>,
}

impl Costs {
    pub fn new(by: By, prices: Prices) -> Self {
        Self {
            by,
            prices,
            calls: Calls::default(),
            runs: Vec::new(),
            current: HashMap::new(),
            rows: BTreeMap::new(),
            total: Sum::default(),
            rows_left_out: 0,
            unpriced: BTreeMap::new(),
            nameless: 0,
        }
    }

    /// A repeated event is not to be handed in again.
    pub fn take(&mut self, place: Place, message: &DashStreamMessage) {
        for told in tell(place, message) {
            let Some((owner, told)) = told else {
                self.nameless += 1;
                continue;
            };
            let run = self.run(owner, &told);
            self.calls.take(run, &told.what);
            for call in self.calls.take_settled() {
                self.settle(&call);
            }
        }
    }

    /// The number of the run; those beyond [`ROWS_MAX`] share one.
    fn run(&mut self, owner: Owner, told: &Told) -> usize {
        let beat = told.beat();
        let nth = match self.current.get_mut(&owner) {
            Some((run, life)) if !life.is_over(beat) => {
                life.note(beat);
                return *run;
            }
            Some((run, _)) => self.runs.get(*run).map_or(1, |run| run.nth.saturating_add(1)),
            None => 1,
        };
        if self.runs.len() >= ROWS_MAX {
            self.rows_left_out += 1;
            return self.runs.len();
        }
        self.runs.push(RunId { owner: owner.clone(), nth });
        let run = self.runs.len() - 1;
        let mut life = Life::default();
        life.note(beat);
        self.current.insert(owner, (run, life));
        run
    }

    fn settle(&mut self, call: &ModelCall) {
        let run = self.runs.get(call.run);
        let row = match self.by {
            By::Run => run.cloned().map_or(Row::Others, Row::Run),
            By::Tenant => run.map_or(Row::Others, |run| Row::Tenant(run.owner.tenant.clone())),
            By::Node => Row::Node(call.node.clone().unwrap_or_else(|| NO_NODE.to_owned())),
            By::Model => Row::Model(call.model.clone().unwrap_or_else(|| NO_MODEL.to_owned())),
        };
        let row = match self.rows.len() >= ROWS_MAX && !self.rows.contains_key(&row) {
            true => {
                self.rows_left_out += 1;
                Row::Others
            }
            false => row,
        };
        let sum = self.rows.entry(row).or_default();
        let unpriced = sum.unpriced;
        sum.add(call, &self.prices);
        if sum.unpriced > unpriced && !self.prices.is_empty() {
            let model = call.model.clone().unwrap_or_else(|| NO_MODEL.to_owned());
            if self.unpriced.len() < ROWS_MAX || self.unpriced.contains_key(&model) {
                *self.unpriced.entry(model).or_default() += 1;
            }
        }
        self.total.add(call, &self.prices);
    }

    pub fn finish(mut self) -> CostTable {
        let (calls, settled_early) = std::mem::take(&mut self.calls).finish();
        for call in calls {
            self.settle(&call);
        }
        let mut notes = Vec::new();
        if self.rows_left_out > 0 {
            notes.push(Note::RowsLeftOut(self.rows_left_out));
        }
        if settled_early > 0 {
            notes.push(Note::SettledEarly(settled_early));
        }
        if let Some((model, _)) = self.unpriced.iter().max_by_key(|(_, calls)| **calls) {
            notes.push(Note::Unpriced { calls: self.unpriced.values().sum(), model: model.clone() });
        }
        if self.nameless > 0 {
            notes.push(Note::Nameless(self.nameless));
        }
        let mut rows: Vec<_> = self.rows.into_iter().collect();
        rows.sort_by(|(a_row, a), (b_row, b)| {
            (b.cost, b.tokens()).cmp(&(a.cost, a.tokens())).then_with(|| a_row.cmp(b_row))
        });
        CostTable { rows, total: self.total, notes }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Script;
    use super::*;

    fn script() -> Script {
        let mut script = Script::new("acme", "run-1");
        script.graph_start().model("plan", "r1", "large", 1, (1_000, 100)).model("act", "r2", "small", 1, (200, 20));
        script.graph_end().graph_start().model("plan", "r1", "large", 1, (1_000, 100)).graph_end();
        script.thread("run-2").graph_start().model("plan", "r1", "odd", 1, (5, 5)).graph_end();
        script
    }

    fn check(by: By, prices: &str, expected: &[&str]) -> CostTable {
        let mut costs = Costs::new(by, Prices::parse(prices).expect("prices"));
        for (offset, message) in script().messages.iter().enumerate() {
            costs.take(Script::place(offset), message);
        }
        let table = costs.finish();
        let line = |(row, sum): &(Row, Sum)| {
            format!("{}: {} {}+{} {}", row.name(), sum.calls, sum.input, sum.output, sum.cost.exact())
        };
        assert_eq!(table.rows.iter().map(line).collect::<Vec<_>>(), expected);
        assert_eq!((table.total.calls, table.total.input, table.total.output), (4, 2_205, 225));
        table
    }

    #[test]
    fn rows_are_runs_nodes_models_or_tenants() {
        let prices = "large=10/20,*=1/1";
        check(
            By::Run,
            prices,
            &["acme/run-1: 2 1200+120 0.01222", "acme/run-1#2: 1 1000+100 0.012", "acme/run-2: 1 5+5 0.00001"],
        );
        check(By::Node, prices, &["plan: 3 2005+205 0.02401", "act: 1 200+20 0.00022"]);
        check(By::Model, prices, &["large: 2 2000+200 0.024", "small: 1 200+20 0.00022", "odd: 1 5+5 0.00001"]);
        let table = check(By::Tenant, prices, &["acme: 4 2205+225 0.02423"]);
        assert_eq!(table.notes, []);
    }

    fn summed(by: By, script: &Script) -> Vec<(Row, u64)> {
        let mut costs = Costs::new(by, Prices::default());
        for (offset, message) in script.messages.iter().enumerate() {
            costs.take(Script::place(offset), message);
        }
        costs.finish().rows.into_iter().map(|(row, sum)| (row, sum.calls)).collect()
    }

    #[test]
    fn runs_that_look_alike_are_told_apart_and_one_run_is_not_split() {
        let mut script = Script::new("t", "");
        for thread in [format!("{}A", "x".repeat(200)), format!("{}B", "x".repeat(200)), "a b".into(), "a  b".into()] {
            script.thread(&thread).graph_start().model("plan", "r", "large", 1, (1, 1)).graph_end();
        }
        let mut other = Script::new("a", "b/c");
        other.model("plan", "r", "large", 1, (1, 1));
        script.messages.append(&mut other.messages);
        let mut other = Script::new("a/b", "c");
        other.model("plan", "r", "large", 1, (1, 1));
        script.messages.append(&mut other.messages);
        assert_eq!(summed(By::Run, &script).iter().map(|(_, calls)| *calls).collect::<Vec<_>>(), [1; 6]);
        // Its own start comes after its end.
        let mut script = Script::new("t", "late");
        script.graph_start().wait(1).model("plan", "r1", "large", 1, (1, 1)).graph_end();
        script.model("plan", "r2", "large", 1, (1, 1));
        script.messages = [2, 3, 0, 5].map(|place| script.messages[place].clone()).to_vec();
        let rows = summed(By::Run, &script);
        assert_eq!(rows.iter().map(|(row, calls)| (row.name(), *calls)).collect::<Vec<_>>(), [("t/late".into(), 2)]);
    }

    #[test]
    fn a_call_that_names_no_node_is_of_the_node_that_is_open_as_in_a_profile() {
        let mut script = Script::new("t", "run");
        script.graph_start().start("plan").model("", "r", "large", 1, (1, 1)).end("plan").graph_end();
        assert_eq!(summed(By::Node, &script), [(Row::Node("plan".to_owned()), 1)]);
    }

    #[test]
    fn what_has_no_price_is_said_and_is_not_free() {
        let table = check(By::Model, "large=10/20", &["large: 2 2000+200 0.024", "small: 1 200+20 0", "odd: 1 5+5 0"]);
        assert_eq!(table.rows[1].1.unpriced, 1);
        assert_eq!(table.notes, [Note::Unpriced { calls: 2, model: "small".to_owned() }]);
        // Without a table nobody asked for costs.
        let table = check(By::Model, "", &["large: 2 2000+200 0", "small: 1 200+20 0", "odd: 1 5+5 0"]);
        assert_eq!((table.notes, table.total.unpriced), (Vec::new(), 4));
    }
}
