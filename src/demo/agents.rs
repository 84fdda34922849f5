//! The agents of the demo: their graphs, what each node does, and what their runs are about. Tables only.
//!
//! Deliberately absent: chance and time (`script`), and how a graph is written down (`manifest`).

use super::prose::{self, Voice};

/// A kind of agent: one graph, many runs.
#[derive(Debug)]
pub struct Agent {
    pub name: &'static str,
    /// Begins every thread id of its runs.
    pub short: &'static str,
    pub schema_id: &'static str,
    /// The category of its quality metrics.
    pub category: &'static str,
    pub models: &'static [&'static str],
    pub graph: &'static [Stage],
    pub topics: &'static [&'static str],
    /// Events per record: 1 sends each alone, more sends them as batches.
    pub batch: usize,
}

#[derive(Debug)]
pub struct Node {
    pub id: &'static str,
    pub work: Work,
}

/// What a node does between its start and its end.
#[derive(Debug)]
pub enum Work {
    /// Asks a model, whose answer streams.
    Think(&'static Voice),
    /// Calls a tool.
    Call(Tool),
    /// Computes for a while and says how far it is.
    Compute,
    /// Waits for a human.
    Approve,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tool {
    Search,
    Sql,
    Http,
    Code,
}

#[derive(Debug)]
pub enum Stage {
    Node(Node),
    /// All of these at the same time.
    Fork(&'static [Node]),
    /// One of these, by weight.
    Branch(&'static [Arm]),
    /// These, and then perhaps once more: `percent` times of a hundred, at most twice.
    Again {
        percent: u64,
        when: &'static str,
        stages: &'static [Stage],
    },
}

#[derive(Debug)]
pub struct Arm {
    pub weight: u64,
    pub when: &'static str,
    pub stages: &'static [Stage],
}

const fn think(id: &'static str, voice: &'static Voice) -> Node {
    Node { id, work: Work::Think(voice) }
}

const fn call(id: &'static str, tool: Tool) -> Node {
    Node { id, work: Work::Call(tool) }
}

const fn compute(id: &'static str) -> Node {
    Node { id, work: Work::Compute }
}

pub static AGENTS: &[Agent] = &[
    Agent {
        name: "Research assistant",
        short: "research",
        schema_id: "research-assistant-v3",
        category: "research",
        models: &["gpt-4o", "claude-sonnet-4"],
        batch: 1,
        graph: &[
            Stage::Node(think("planner", &prose::PLANNING)),
            Stage::Fork(&[
                call("search_web", Tool::Search),
                call("search_papers", Tool::Search),
                call("read_archive", Tool::Http),
            ]),
            Stage::Again {
                percent: 30,
                when: "claims_without_source",
                stages: &[
                    Stage::Node(think("synthesize", &prose::RESEARCH)),
                    Stage::Node(think("critic", &prose::JUDGING)),
                ],
            },
            Stage::Node(think("write_report", &prose::RESEARCH)),
        ],
        topics: &[
            "grid-scale sodium batteries",
            "heat pumps in old houses",
            "urban tree cover and heat",
            "ammonia as ship fuel",
            "reuse of launch vehicles",
            "soil carbon measurement",
            "desalination by membranes",
            "early warning for floods",
            "low-carbon cement",
            "night trains in Europe",
        ],
    },
    Agent {
        name: "Code reviewer",
        short: "review",
        schema_id: "code-reviewer-v2",
        category: "code",
        models: &["claude-sonnet-4", "gpt-4.1"],
        batch: 1,
        graph: &[
            Stage::Node(call("fetch_diff", Tool::Http)),
            Stage::Fork(&[
                call("static_analysis", Tool::Code),
                call("run_tests", Tool::Code),
                call("search_history", Tool::Search),
            ]),
            Stage::Node(think("review", &prose::REVIEW)),
            Stage::Branch(&[
                Arm {
                    weight: 55,
                    when: "changes_requested",
                    stages: &[
                        Stage::Node(think("suggest_patch", &prose::REVIEW)),
                        Stage::Node(call("verify_patch", Tool::Code)),
                    ],
                },
                Arm { weight: 45, when: "approved", stages: &[] },
            ]),
            Stage::Node(call("post_comment", Tool::Http)),
        ],
        topics: &[
            "an empty shopping cart",
            "a token that expires mid-request",
            "a retried payment",
            "a renamed column",
            "a very long user name",
            "two uploads at once",
            "a restart during the migration",
            "an unknown locale",
        ],
    },
    Agent {
        name: "Support triage",
        short: "support",
        schema_id: "support-triage-v5",
        category: "support",
        models: &["gpt-4o-mini", "claude-haiku-3.5"],
        batch: 1,
        graph: &[
            Stage::Node(think("classify", &prose::PLANNING)),
            Stage::Fork(&[call("lookup_customer", Tool::Sql), call("search_articles", Tool::Search)]),
            Stage::Node(think("draft_reply", &prose::SUPPORT)),
            Stage::Branch(&[
                Arm { weight: 70, when: "confident", stages: &[] },
                Arm {
                    weight: 30,
                    when: "needs_approval",
                    stages: &[Stage::Node(Node { id: "human_review", work: Work::Approve })],
                },
            ]),
            Stage::Node(call("send_reply", Tool::Http)),
        ],
        topics: &[
            "an invoice that came twice",
            "a login that loops",
            "a parcel that is late",
            "an export that stays empty",
            "a plan that cannot be changed",
            "a missing confirmation mail",
            "a blocked account",
            "a wrong delivery address",
        ],
    },
    Agent {
        name: "Data pipeline",
        short: "pipeline",
        schema_id: "data-pipeline-v1",
        category: "data",
        models: &["gpt-4o-mini"],
        batch: 8,
        graph: &[
            Stage::Node(call("extract", Tool::Sql)),
            Stage::Node(compute("validate")),
            Stage::Branch(&[
                Arm { weight: 75, when: "clean", stages: &[] },
                Arm { weight: 25, when: "rows_rejected", stages: &[Stage::Node(call("quarantine", Tool::Sql))] },
            ]),
            Stage::Fork(&[compute("transform_facts"), compute("transform_dimensions")]),
            Stage::Node(call("load", Tool::Sql)),
            Stage::Node(think("summarize", &prose::PIPELINE)),
        ],
        topics: &[
            "yesterday's orders",
            "sensor readings of the plant",
            "web sessions of the week",
            "returned goods",
            "exchange rates",
            "warehouse movements",
            "newsletter answers",
        ],
    },
    Agent {
        name: "Incident responder",
        short: "incident",
        schema_id: "incident-responder-v4",
        category: "operations",
        models: &["claude-sonnet-4", "gpt-4o"],
        batch: 4,
        graph: &[
            Stage::Fork(&[
                call("query_metrics", Tool::Http),
                call("search_logs", Tool::Search),
                call("recent_deploys", Tool::Sql),
            ]),
            Stage::Again {
                percent: 35,
                when: "hypothesis_rejected",
                stages: &[
                    Stage::Node(think("hypothesize", &prose::INCIDENT)),
                    Stage::Node(call("test_hypothesis", Tool::Code)),
                ],
            },
            Stage::Branch(&[
                Arm {
                    weight: 60,
                    when: "rollback_is_safe",
                    stages: &[
                        Stage::Node(Node { id: "approve_rollback", work: Work::Approve }),
                        Stage::Node(call("roll_back", Tool::Http)),
                    ],
                },
                Arm { weight: 40, when: "heals_by_itself", stages: &[Stage::Node(compute("watch_recovery"))] },
            ]),
            Stage::Node(think("write_postmortem", &prose::INCIDENT)),
        ],
        topics: &[
            "slow checkout",
            "failed logins in one region",
            "a growing queue",
            "timeouts at the edge",
            "a replica that lags",
            "memory that is not returned",
            "errors after the deploy",
        ],
    },
    Agent {
        name: "Contract analyst",
        short: "contract",
        schema_id: "contract-analyst-v2",
        category: "legal",
        models: &["claude-opus-4", "gpt-4.1"],
        batch: 1,
        graph: &[
            Stage::Node(call("load_document", Tool::Http)),
            Stage::Node(compute("split_clauses")),
            Stage::Fork(&[
                think("read_obligations", &prose::CONTRACT),
                think("read_liability", &prose::CONTRACT),
                call("search_precedents", Tool::Search),
            ]),
            Stage::Node(think("assess_risk", &prose::JUDGING)),
            Stage::Node(think("write_opinion", &prose::CONTRACT)),
        ],
        topics: &[
            "the cloud hosting agreement",
            "a reseller contract",
            "the office lease",
            "a joint development agreement",
            "the maintenance contract",
            "a licence for map data",
        ],
    },
];

/// Whose runs they are.
pub static TENANTS: &[&str] = &["acme", "northwind", "umbrella-labs"];
