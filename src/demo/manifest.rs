//! A graph written down as `GRAPH_START` carries it: nodes and edges as JSON, made once per agent.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::agents::{Agent, Node, Stage, Work};

/// What `GRAPH_START` says of a graph.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    pub json: String,
    pub entry_point: &'static str,
    pub node_count: usize,
    pub edge_count: usize,
}

/// An edge; the condition makes it a conditional one.
type Edge = (&'static str, &'static str, Option<&'static str>);
/// Where the graph stands: nodes from which the next edge leaves, each with the condition it was left under.
type Heads = Vec<(&'static str, Option<&'static str>)>;

pub const START: &str = "__start__";
pub const END: &str = "__end__";

pub fn manifest(agent: &'static Agent) -> Manifest {
    let mut walk = Walk { nodes: Vec::new(), edges: Vec::new() };
    let mut heads = walk.stages(agent.graph, vec![(START, None)]);
    walk.connect(&mut heads, END);
    let entry_point = walk.nodes.first().map_or(END, |node| node.id);

    let nodes: BTreeMap<&str, Value> = walk.nodes.iter().map(|node| (node.id, describe(node))).collect();
    let edges: Vec<Value> = walk
        .edges
        .iter()
        .map(|(from, to, when)| match when {
            None => json!({ "from": from, "to": to, "edge_type": "direct" }),
            Some(when) => json!({ "from": from, "to": to, "edge_type": "conditional", "condition": when }),
        })
        .collect();
    let json = json!({
        "manifest_version": "1.0",
        "graph_id": agent.schema_id,
        "graph_name": agent.name,
        "entry_point": entry_point,
        "nodes": nodes,
        "edges": edges,
    });
    Manifest { json: json.to_string(), entry_point, node_count: nodes.len(), edge_count: walk.edges.len() }
}

fn describe(node: &Node) -> Value {
    let (kind, description) = match &node.work {
        Work::Think(_) => ("llm", "asks a model"),
        Work::Call(_) => ("tool", "calls a tool"),
        Work::Compute => ("function", "computes"),
        Work::Approve => ("human", "waits for a human"),
    };
    json!({ "name": node.id, "node_type": kind, "description": description })
}

struct Walk {
    nodes: Vec<&'static Node>,
    edges: Vec<Edge>,
}

impl Walk {
    /// Every head gets an edge to `to`, once.
    fn connect(&mut self, heads: &mut Heads, to: &'static str) {
        for (from, when) in heads.drain(..) {
            let edge = (from, to, when);
            if !self.edges.contains(&edge) {
                self.edges.push(edge);
            }
        }
    }

    fn stages(&mut self, stages: &'static [Stage], mut heads: Heads) -> Heads {
        for stage in stages {
            heads = match stage {
                Stage::Node(node) => {
                    self.connect(&mut heads, node.id);
                    self.nodes.push(node);
                    vec![(node.id, None)]
                }
                Stage::Fork(nodes) => {
                    for node in *nodes {
                        self.connect(&mut heads.clone(), node.id);
                        self.nodes.push(node);
                    }
                    nodes.iter().map(|node| (node.id, None)).collect()
                }
                Stage::Branch(arms) => arms
                    .iter()
                    .flat_map(|arm| {
                        let taken = heads.iter().map(|(from, _)| (*from, Some(arm.when))).collect();
                        self.stages(arm.stages, taken)
                    })
                    .collect(),
                Stage::Again { when, stages, .. } => {
                    let first = self.nodes.len();
                    let heads = self.stages(stages, heads);
                    if let Some(first) = self.nodes.get(first).map(|node| node.id) {
                        let mut back = heads.iter().map(|(from, _)| (*from, Some(*when))).collect();
                        self.connect(&mut back, first);
                    }
                    heads
                }
            };
        }
        heads
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::agents::AGENTS;

    #[test]
    fn every_graph_is_connected_from_its_entry_to_its_end() {
        for agent in AGENTS {
            let manifest = manifest(agent);
            let value: Value = serde_json::from_str(&manifest.json).expect("JSON");
            let nodes = value["nodes"].as_object().expect("nodes");
            let edges = value["edges"].as_array().expect("edges");
            assert_eq!((nodes.len(), edges.len()), (manifest.node_count, manifest.edge_count));
            assert!(nodes.contains_key(manifest.entry_point));

            let mut reached = vec![START.to_owned()];
            let mut at = 0;
            while let Some(from) = reached.get(at).cloned() {
                for edge in edges.iter().filter(|edge| edge["from"] == from.as_str()) {
                    let to = edge["to"].as_str().expect("a name").to_owned();
                    if !reached.contains(&to) {
                        reached.push(to);
                    }
                }
                at += 1;
            }
            assert_eq!(reached.len(), nodes.len() + 2, "{}: {reached:?}", agent.name);
            assert!(reached.contains(&END.to_owned()));
        }
    }

    #[test]
    fn node_names_are_unique_within_a_graph() {
        for agent in AGENTS {
            let mut walk = Walk { nodes: Vec::new(), edges: Vec::new() };
            walk.stages(agent.graph, vec![(START, None)]);
            assert_eq!(walk.nodes.len(), manifest(agent).node_count, "{}", agent.name);
        }
    }

    #[test]
    fn branches_and_repetitions_are_conditional_edges() {
        let review = AGENTS.iter().find(|agent| agent.short == "review").expect("the reviewer");
        let json = manifest(review).json;
        assert!(
            json.contains(r#"{"condition":"approved","edge_type":"conditional","from":"review","to":"post_comment"}"#)
        );
        let research = AGENTS.iter().find(|agent| agent.short == "research").expect("the researcher");
        let json = manifest(research).json;
        assert!(json.contains(r#""from":"critic","to":"synthesize""#), "{json}");
    }
}
