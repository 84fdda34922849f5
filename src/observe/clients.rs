//! Who is connected, how slow each is, and why the last ones were closed: what `/clients` shows to operators.
//!
//! Every shard publishes a [`Roster`] of its own about once a second into its slot; `http` reads all slots. Bounded
//! on both sides: a shard publishes its slowest [`CLIENTS_MAX`] and its last [`CLOSES_MAX`] closes, and no more than
//! that many of all shards are shown. Deliberately absent: how a shard finds out (`broadcast::shard::roster`), and
//! anything that a client sent.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::stats::Protocol;
use crate::words::{CloseReason, SlowPolicy};

/// Rows that are shown, and that one shard publishes: what somebody looks at, and about 300 KiB of JSON.
pub const CLIENTS_MAX: usize = 1_000;
/// Closes that are shown, and that one shard remembers.
pub const CLOSES_MAX: usize = 100;

/// What a client is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientState {
    /// Gets what is new.
    Live,
    /// Gets what is in the log after its cursor.
    Replaying,
    /// Gets what is older than the log.
    Cold,
    /// Waits for its turn to be replayed from beyond the log.
    Waiting,
    /// Asked for nothing until it says so.
    Paused,
    /// Was told goodbye and has not taken it yet.
    Closing,
}

impl ClientState {
    pub const ALL: [Self; 6] = [Self::Live, Self::Replaying, Self::Cold, Self::Waiting, Self::Paused, Self::Closing];

    pub fn label(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Replaying => "replaying",
            Self::Cold => "cold",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Closing => "closing",
        }
    }
}

/// One client, as of the moment at which its shard looked.
#[derive(Clone, Debug)]
pub struct Client {
    pub who: Who,
    pub state: ClientState,
    /// Offsets up to the end of the log, all partitions together; `None` when there was no time to count them.
    pub behind: Option<u64>,
    /// Bytes wait for its socket, which has taken none since then (monotonic ms).
    pub waiting_since_ms: Option<u64>,
    pub policy: SlowPolicy,
}

/// What stays the same from row to row.
#[derive(Clone, Debug)]
pub struct Who {
    /// Counts the connections of this process.
    pub id: u64,
    /// The client's, also behind a trusted proxy.
    pub address: IpAddr,
    pub protocol: Protocol,
    /// Monotonic ms, and ms since the epoch.
    pub since_ms: u64,
    pub since_unix_ms: u64,
    pub records_sent: u64,
    /// Frames that told it what it does not get.
    pub gaps_told: u64,
}

/// How a connection ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Its close frame went out.
    Said(CloseReason),
    /// It was to be told, and did not take it.
    Aborted(CloseReason),
    /// The peer went away without a word.
    Vanished,
}

impl End {
    fn reason(self) -> &'static str {
        match self {
            Self::Said(reason) | Self::Aborted(reason) => reason.label(),
            Self::Vanished => "vanished",
        }
    }
}

/// A client that is gone.
#[derive(Clone, Debug)]
pub struct Closed {
    pub who: Who,
    pub end: End,
    /// Monotonic ms, and ms since the epoch.
    pub at_ms: u64,
    pub at_unix_ms: u64,
}

/// What one shard publishes.
#[derive(Clone, Default, Debug)]
pub struct Roster {
    /// All clients of the shard, also those without a row.
    pub total: u64,
    /// Invariant: at most [`CLIENTS_MAX`], the slowest.
    pub clients: Vec<Client>,
    /// Invariant: at most [`CLOSES_MAX`], the last.
    pub closed: Vec<Closed>,
}

#[derive(Serialize)]
struct Page<'a> {
    total: u64,
    shown: usize,
    clients: Vec<ClientJson<'a>>,
    closed: Vec<ClosedJson<'a>>,
}

#[derive(Serialize)]
struct WhoJson<'a> {
    id: u64,
    address: IpAddr,
    protocol: &'a str,
    connected_at_ms: u64,
    connected_seconds: u64,
    records_sent: u64,
    gaps_told: u64,
}

#[derive(Serialize)]
struct ClientJson<'a> {
    #[serde(flatten)]
    who: WhoJson<'a>,
    state: &'a str,
    behind_records: Option<u64>,
    waiting_seconds: Option<f64>,
    policy: &'a str,
}

#[derive(Serialize)]
struct ClosedJson<'a> {
    #[serde(flatten)]
    who: WhoJson<'a>,
    reason: &'a str,
    /// The client was told: false when it went without a word, or did not take ours.
    told: bool,
    closed_at_ms: u64,
    closed_seconds_ago: u64,
}

fn who_json(who: &Who, until_ms: u64) -> WhoJson<'static> {
    WhoJson {
        id: who.id,
        address: who.address,
        protocol: who.protocol.label(),
        connected_at_ms: who.since_unix_ms,
        connected_seconds: until_ms.saturating_sub(who.since_ms) / 1_000,
        records_sent: who.records_sent,
        gaps_told: who.gaps_told,
    }
}

/// The body of `/clients`: slowest first, and the last closes, newest first.
pub fn render(rosters: &[Arc<Roster>], now_ms: u64) -> Vec<u8> {
    let total = rosters.iter().map(|roster| roster.total).sum();
    let mut clients: Vec<&Client> = rosters.iter().flat_map(|roster| &roster.clients).collect();
    // Not counted is more than nothing, and less than what came first and was counted.
    let slowness = |client: &Client| (client.behind.unwrap_or(1), waiting_ms(client, now_ms));
    clients.sort_by(|one, other| slowness(other).cmp(&slowness(one)).then(one.who.id.cmp(&other.who.id)));
    clients.truncate(CLIENTS_MAX);
    let mut closed: Vec<&Closed> = rosters.iter().flat_map(|roster| &roster.closed).collect();
    closed.sort_by_key(|closed| std::cmp::Reverse((closed.at_ms, closed.who.id)));
    closed.truncate(CLOSES_MAX);
    let page = Page {
        total,
        shown: clients.len(),
        clients: clients.into_iter().map(|client| client_json(client, now_ms)).collect(),
        closed: closed.into_iter().map(|closed| closed_json(closed, now_ms)).collect(),
    };
    // Numbers and text only: there is nothing in it that JSON cannot say.
    let mut body = serde_json::to_vec(&page).unwrap_or_default();
    body.push(b'\n');
    body
}

fn waiting_ms(client: &Client, now_ms: u64) -> Option<u64> {
    client.waiting_since_ms.map(|since_ms| now_ms.saturating_sub(since_ms))
}

fn client_json(client: &Client, now_ms: u64) -> ClientJson<'static> {
    ClientJson {
        who: who_json(&client.who, now_ms),
        state: client.state.label(),
        behind_records: client.behind,
        waiting_seconds: waiting_ms(client, now_ms).map(|waiting_ms| waiting_ms as f64 / 1_000.0),
        policy: client.policy.label(),
    }
}

fn closed_json(closed: &Closed, now_ms: u64) -> ClosedJson<'static> {
    ClosedJson {
        who: who_json(&closed.who, closed.at_ms),
        reason: closed.end.reason(),
        told: matches!(closed.end, End::Said(_)),
        closed_at_ms: closed.at_unix_ms,
        closed_seconds_ago: now_ms.saturating_sub(closed.at_ms) / 1_000,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::{Value, json};

    use super::*;

    fn who(id: u64) -> Who {
        Who {
            id,
            address: Ipv4Addr::new(10, 0, 0, 7).into(),
            protocol: Protocol::Json,
            since_ms: 5_000,
            since_unix_ms: 1_760_000_000_000,
            records_sent: 12,
            gaps_told: 2,
        }
    }

    fn client(id: u64, behind: Option<u64>, waiting_since_ms: Option<u64>) -> Client {
        Client { who: who(id), state: ClientState::Live, behind, waiting_since_ms, policy: SlowPolicy::Gap }
    }

    fn closed(id: u64, at_ms: u64, end: End) -> Closed {
        Closed { who: who(id), end, at_ms, at_unix_ms: 1_760_000_000_000 + at_ms }
    }

    fn page(rosters: Vec<Roster>) -> Value {
        let rosters: Vec<_> = rosters.into_iter().map(Arc::new).collect();
        serde_json::from_slice(&render(&rosters, 60_000)).expect("JSON")
    }

    fn ids(rows: &Value) -> Vec<u64> {
        rows.as_array().expect("rows").iter().map(|row| row["id"].as_u64().expect("an id")).collect()
    }

    #[test]
    fn nobody_is_a_page_too() {
        assert_eq!(page(vec![]), json!({"total": 0, "shown": 0, "clients": [], "closed": []}));
    }

    #[test]
    fn a_row_says_what_an_operator_asks() {
        let mut slow = client(3, Some(70), Some(57_500));
        slow.state = ClientState::Replaying;
        let page = page(vec![Roster { total: 9, clients: vec![slow], closed: vec![] }]);
        assert_eq!((&page["total"], &page["shown"]), (&json!(9), &json!(1)));
        assert_eq!(
            page["clients"][0],
            json!({
                "id": 3, "address": "10.0.0.7", "protocol": "dashstream.json", "connected_at_ms": 1_760_000_000_000u64,
                "connected_seconds": 55, "records_sent": 12, "gaps_told": 2, "state": "replaying",
                "behind_records": 70, "waiting_seconds": 2.5, "policy": "gap",
            })
        );
    }

    #[test]
    fn the_slowest_of_all_shards_come_first() {
        let one = vec![client(1, Some(0), None), client(2, Some(500), None), client(3, None, None)];
        let other =
            vec![client(4, Some(500), Some(59_000)), client(5, Some(500), Some(1_000)), client(6, Some(0), None)];
        let page = page(vec![
            Roster { total: 3, clients: one, closed: vec![] },
            Roster { total: 3, clients: other, closed: vec![] },
        ]);
        assert_eq!(ids(&page["clients"]), [5, 4, 2, 3, 1, 6]);
        assert_eq!(page["clients"][3]["behind_records"], Value::Null, "not counted is not 0");
        assert_eq!(page["clients"][2]["waiting_seconds"], Value::Null);
    }

    #[test]
    fn the_last_closes_say_why_newest_first() {
        let one = vec![closed(1, 10_000, End::Said(CloseReason::Stalled)), closed(2, 50_000, End::Vanished)];
        let other = vec![closed(3, 30_000, End::Aborted(CloseReason::FellBehind))];
        let page =
            page(vec![Roster { closed: one, ..Roster::default() }, Roster { closed: other, ..Roster::default() }]);
        assert_eq!(ids(&page["closed"]), [2, 3, 1]);
        let said: Vec<_> =
            (0..3).map(|row| (page["closed"][row]["reason"].clone(), page["closed"][row]["told"].clone())).collect();
        let label = |reason: CloseReason| json!(reason.label());
        assert_eq!(
            said,
            [
                (json!("vanished"), json!(false)),
                (label(CloseReason::FellBehind), json!(false)),
                (label(CloseReason::Stalled), json!(true))
            ]
        );
        assert_eq!(
            (&page["closed"][2]["closed_seconds_ago"], &page["closed"][2]["connected_seconds"]),
            (&json!(50), &json!(5))
        );
    }

    #[test]
    fn what_is_shown_is_bounded() {
        let roster = |from: u64| Roster {
            total: CLIENTS_MAX as u64,
            clients: (from..from + CLIENTS_MAX as u64).map(|id| client(id, Some(id), Some(1))).collect(),
            closed: (from..from + CLOSES_MAX as u64).map(|id| closed(id, id, End::Vanished)).collect(),
        };
        let rosters: Vec<_> = [0, 10_000, 20_000].map(roster).into_iter().map(Arc::new).collect();
        let body = render(&rosters, u64::from(u32::MAX));
        assert!(body.len() < 512 << 10, "{} bytes", body.len());
        let page: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!((&page["total"], &page["shown"]), (&json!(3_000), &json!(CLIENTS_MAX)));
        let clients = ids(&page["clients"]);
        assert_eq!((clients.len(), clients[0], clients[CLIENTS_MAX - 1]), (CLIENTS_MAX, 20_999, 20_000));
        assert_eq!((ids(&page["closed"]).len(), ids(&page["closed"])[0]), (CLOSES_MAX, 20_099));
    }

    #[test]
    fn labels_are_told_apart() {
        let states: std::collections::BTreeSet<_> = ClientState::ALL.map(ClientState::label).into();
        let policies: std::collections::BTreeSet<_> = SlowPolicy::ALL.map(SlowPolicy::label).into();
        assert_eq!((states.len(), policies.len()), (ClientState::ALL.len(), SlowPolicy::ALL.len()));
    }
}
