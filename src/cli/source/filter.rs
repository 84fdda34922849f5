//! What a command wants to see of what is read. An event matches when it matches every list that is not empty; that of
//! a batch is looked at by itself.

use crate::client;
use crate::wire::proto::EventType;
use crate::wire::scan::{EventMeta, Kind};

const PREFIX: &str = "EVENT_TYPE_";

/// Empty lists let everything through.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Filter {
    pub tenants: Vec<String>,
    pub threads: Vec<String>,
    pub kinds: Vec<Kind>,
    pub event_types: Vec<EventType>,
    /// Only events have a node.
    pub nodes: Vec<String>,
}

impl Filter {
    /// `body` is what was scanned.
    pub fn matches(&self, meta: &EventMeta, body: &[u8]) -> bool {
        self.wants(meta.tenant.str_of(body), meta.thread.str_of(body))
            && (self.kinds.is_empty() || self.kinds.contains(&meta.kind))
            && (self.event_types.is_empty()
                || meta.kind == Kind::Event && self.event_types.iter().any(|wanted| *wanted as i32 == meta.event_type))
            && (self.nodes.is_empty() || meta.kind == Kind::Event && among(&self.nodes, meta.node.str_of(body)))
    }

    /// The run may matter.
    pub fn wants(&self, tenant: &str, thread: &str) -> bool {
        (self.tenants.is_empty() || among(&self.tenants, tenant))
            && (self.threads.is_empty() || among(&self.threads, thread))
    }

    /// Whole runs come: sequences that are missing are missing indeed.
    pub fn keeps_runs_whole(&self) -> bool {
        self.kinds.is_empty() && self.event_types.is_empty() && self.nodes.is_empty()
    }

    /// For a gateway, which matches whole records.
    pub fn to_client(&self, partitions: Vec<u32>) -> client::Filter {
        let name = |event_type: &EventType| event_type.as_str_name().trim_start_matches(PREFIX).to_owned();
        client::Filter {
            tenants: self.tenants.clone(),
            threads: self.threads.clone(),
            kinds: self.kinds.iter().map(|kind| kind.label().to_owned()).collect(),
            event_types: self.event_types.iter().map(name).collect(),
            nodes: self.nodes.clone(),
            partitions,
        }
    }
}

fn among(list: &[String], text: &str) -> bool {
    list.iter().any(|wanted| wanted == text)
}

/// The names that a text lists: a comma stands between two of them, and `\,` for a comma within one.
pub fn names(text: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let escaped = letter == '\\' && letters.next_if_eq(&',').is_some();
        match (letter, names.last_mut()) {
            (',', _) => names.push(String::new()),
            (_, Some(name)) => name.push(if escaped { ',' } else { letter }),
            (_, None) => {}
        }
    }
    names
}

/// A kind by its name. Batches are expanded, so none is ever seen.
pub fn kind(text: &str) -> Result<Kind, String> {
    let known = || Kind::ALL.into_iter().filter(|kind| *kind != Kind::EventBatch);
    let wanted = text.trim().to_ascii_lowercase().replace('-', "_");
    known().find(|kind| kind.label() == wanted).ok_or_else(|| {
        let names: Vec<_> = known().map(Kind::label).collect();
        format!("there are {}", names.join(", "))
    })
}

/// All types that a text means: the one of this name, or those whose name contains it, such as `error`.
pub fn event_types(text: &str) -> Result<Vec<EventType>, String> {
    let wanted = text.trim().to_ascii_uppercase().replace('-', "_");
    let wanted = wanted.strip_prefix(PREFIX).unwrap_or(&wanted);
    if wanted.is_empty() {
        return Err("a name such as NODE_START, or a part of one, is meant".to_owned());
    }
    if let Some(one) = EventType::from_str_name(&format!("{PREFIX}{wanted}")) {
        return Ok(vec![one]);
    }
    let name = |one: &EventType| one.as_str_name().trim_start_matches(PREFIX);
    let all: Vec<EventType> = (0..=127).filter_map(|number| EventType::try_from(number).ok()).collect();
    let found: Vec<_> = all.iter().copied().filter(|one| name(one).contains(wanted)).collect();
    if found.is_empty() {
        let names: Vec<_> = all.iter().map(name).collect();
        return Err(format!("there are {}", names.join(", ")));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::proto::dash_stream_message::Message as Payload;
    use crate::wire::proto::{DashStreamMessage, Event, Header, TokenChunk};
    use crate::wire::scan::{Scan, scan};
    use prost::Message;

    fn matches(filter: &Filter, payload: Payload) -> bool {
        let body = DashStreamMessage { message: Some(payload) }.encode_to_vec();
        let mut scanned = Scan::default();
        scan(&body, &mut scanned).expect("a message");
        filter.matches(&scanned.events[0], &body)
    }

    fn header() -> Option<Header> {
        Some(Header { tenant_id: "a".to_owned(), thread_id: "run".to_owned(), ..Header::default() })
    }

    fn event() -> Payload {
        Payload::Event(Event {
            header: header(),
            event_type: EventType::NodeStart as i32,
            node_id: "plan".to_owned(),
            ..Event::default()
        })
    }

    #[test]
    fn every_list_that_is_not_empty_must_match() {
        let chunk = || Payload::TokenChunk(TokenChunk { header: header(), ..TokenChunk::default() });
        let list = |text: &str| vec![text.to_owned()];
        let check = |filter: Filter, an_event: bool, a_chunk: bool| {
            assert_eq!(matches(&filter, event()), an_event, "{filter:?}");
            assert_eq!(matches(&filter, chunk()), a_chunk, "{filter:?}");
        };
        check(Filter::default(), true, true);
        check(Filter { tenants: list("a"), threads: list("run"), ..Filter::default() }, true, true);
        check(Filter { tenants: list("b"), threads: list("run"), ..Filter::default() }, false, false);
        check(Filter { kinds: vec![Kind::TokenChunk], ..Filter::default() }, false, true);
        check(Filter { event_types: vec![EventType::NodeStart], ..Filter::default() }, true, false);
        check(Filter { event_types: vec![EventType::NodeEnd], ..Filter::default() }, false, false);
        check(Filter { nodes: list("plan"), ..Filter::default() }, true, false);
    }

    #[test]
    fn a_comma_stands_between_names_or_with_a_backslash_within_one() {
        let check = |text: &str, expected: &[&str]| assert_eq!(names(text), expected, "{text}");
        check("", &[""]);
        check("a", &["a"]);
        check("a,b", &["a", "b"]);
        check("a\\,b,c", &["a,b", "c"]);
        check("\\,", &[","]);
        check("a\\b\\", &["a\\b\\"]);
        check("é,,x", &["é", "", "x"]);
    }

    #[test]
    fn names_are_understood_whole_or_in_part() {
        assert_eq!(kind("token-chunk"), Ok(Kind::TokenChunk));
        assert!(kind("event_batch").is_err_and(|why| why.contains("state_diff") && !why.contains("event_batch")));
        assert_eq!(event_types("node_start"), Ok(vec![EventType::NodeStart]));
        assert_eq!(event_types("EVENT_TYPE_LLM_RETRY"), Ok(vec![EventType::LlmRetry]));
        use EventType::{GraphError, LlmError, NodeError, ToolError};
        assert_eq!(event_types("error"), Ok(vec![GraphError, NodeError, LlmError, ToolError]));
        assert!(event_types("coffee").is_err_and(|why| why.contains("NODE_START")));
        assert!(event_types(" ").is_err());
    }
}
