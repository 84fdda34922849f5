//! What the tools of the demo are asked and what they answer: JSON that reads like the real thing.

use serde_json::{Value, json};

use super::agents::Tool;
use super::dice::Dice;

impl Tool {
    /// `tool_name` of a call.
    pub fn name(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::Sql => "sql_query",
            Self::Http => "http_request",
            Self::Code => "run_code",
        }
    }

    pub fn arguments(self, topic: &str, dice: &mut Dice) -> Value {
        match self {
            Self::Search => json!({
                "query": format!("{topic} {}", dice.pick(&["evidence", "comparison", "since 2023", "best practice", "known problems"])),
                "limit": dice.between(5, 20),
                "language": "en",
            }),
            Self::Sql => json!({
                "sql": format!(
                    "SELECT id, status, updated_at FROM {} WHERE updated_at > now() - interval '{} hours' ORDER BY updated_at DESC LIMIT {}",
                    dice.pick(&["orders", "customers", "deploys", "invoices", "shipments"]),
                    dice.between(1, 72),
                    dice.between(10, 500),
                ),
                "timeout_ms": 5_000,
            }),
            Self::Http => json!({
                "method": dice.pick(&["GET", "GET", "POST"]),
                "url": format!(
                    "https://api.example.com/v2/{}/{}",
                    dice.pick(&["documents", "changes", "comments", "metrics", "messages"]),
                    dice.between(1_000, 99_999),
                ),
                "accept": "application/json",
            }),
            Self::Code => json!({
                "language": dice.pick(&["python", "bash", "rust"]),
                "code": dice.pick(&[
                    "df = load('window.parquet')\nprint(df.groupby('status').size())",
                    "cargo test --quiet 2>&1 | tail -n 20",
                    "ruff check . && mypy --strict src",
                    "assert abs(before.mean() - after.mean()) < 3 * before.std()",
                    "for row in rows:\n    check(row)\nprint('ok', len(rows))",
                ]),
                "sandbox": "wasm-2",
            }),
        }
    }

    pub fn result(self, topic: &str, dice: &mut Dice) -> Value {
        match self {
            Self::Search => {
                let hits: Vec<Value> = (0..dice.between(2, 4))
                    .map(|rank| {
                        json!({
                            "rank": rank + 1,
                            "title": format!("{}: {topic}", dice.pick(&["A field study", "What we know", "Notes on", "An open question", "Ten years of"])),
                            "url": format!("https://library.example.org/{:06x}", dice.below(1 << 24)),
                            "score": round(dice.fraction(0.411, 0.989)),
                        })
                    })
                    .collect();
                json!({ "hits": hits, "total": dice.between(12, 4_800) })
            }
            Self::Sql => {
                let rows: Vec<Value> = (0..dice.between(2, 5))
                    .map(|_| {
                        json!({
                            "id": dice.between(100_000, 999_999),
                            "status": dice.pick(&["open", "paid", "shipped", "failed", "merged"]),
                            "age_hours": dice.between(1, 71),
                        })
                    })
                    .collect();
                json!({ "rows": rows, "row_count": dice.between(5, 480), "truncated": true })
            }
            Self::Http => json!({
                "status": dice.pick(&[200, 200, 200, 201, 202]),
                "bytes": dice.between(320, 48_000),
                "etag": format!("\"{:08x}\"", dice.below(1 << 32)),
                "summary": format!("document on {topic}"),
            }),
            Self::Code => json!({
                "exit_code": 0,
                "stdout": format!("{} passed, 0 failed in {} ms", dice.between(8, 412), dice.between(20, 2_400)),
                "stderr": "",
            }),
        }
    }

    /// Why a call of it fails, and the code of that failure.
    pub fn failure(self, dice: &mut Dice) -> (&'static str, &'static str) {
        match self {
            Self::Search => dice.pick(&[
                ("SEARCH_TIMEOUT", "the index did not answer within 2 s"),
                ("RATE_LIMITED", "quota of the search service used up for this minute"),
            ]),
            Self::Sql => dice.pick(&[
                ("SQL_DEADLOCK", "deadlock detected; the transaction was rolled back"),
                ("SQL_TIMEOUT", "canceling statement due to statement timeout"),
            ]),
            Self::Http => dice.pick(&[
                ("HTTP_503", "503 Service Unavailable from api.example.com"),
                ("CONNECTION_RESET", "connection reset by peer"),
            ]),
            Self::Code => dice.pick(&[
                ("EXIT_1", "process exited with code 1: AssertionError"),
                ("SANDBOX_MEMORY", "the sandbox ran out of memory at 512 MiB"),
            ]),
        }
    }
}

/// Three digits, and never a whole number: scalar printing of those differs between languages.
pub fn round(value: f64) -> f64 {
    let thousandths = (value * 1000.0).round() as i64;
    let thousandths = if thousandths % 1000 == 0 { thousandths + 1 } else { thousandths };
    thousandths as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_is_asked_and_answers_with_an_object() {
        let mut dice = Dice::new(8);
        for tool in [Tool::Search, Tool::Sql, Tool::Http, Tool::Code] {
            for _ in 0..50 {
                assert!(tool.arguments("a topic", &mut dice).as_object().is_some_and(|map| map.len() >= 2));
                assert!(tool.result("a topic", &mut dice).as_object().is_some_and(|map| map.len() >= 2));
                let (code, text) = tool.failure(&mut dice);
                assert!(!code.is_empty() && !text.is_empty());
            }
        }
    }

    #[test]
    fn rounded_numbers_are_never_whole() {
        let check =
            |value, expected: &str| assert_eq!(serde_json::to_string(&round(value)).expect("a number"), expected);
        check(0.5, "0.5");
        check(0.12345, "0.123");
        check(1.0, "1.001");
        check(0.9999, "1.001");
        check(0.0, "0.001");
    }
}
