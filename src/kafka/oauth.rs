//! Unsecured OAUTHBEARER tokens (RFC 7515 appendix A.5), for tests and development: librdkafka has a maker of its
//! own, but the Rust binding takes the event that would call it.

use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::client::OAuthToken;

/// A token from librdkafka's notation `principal=… lifeSeconds=… scope=a,b`.
pub(crate) fn unsecured_token(config: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let config = config.ok_or("sasl.oauthbearer.config is not set: set it to `principal=<name>`")?;
    make(config, now)
}

fn make(config: &str, now: Duration) -> Result<OAuthToken, Box<dyn Error>> {
    let mut principal = None;
    let mut life = Duration::from_secs(3600);
    let mut scope = Vec::new();
    for pair in config.split_ascii_whitespace() {
        let (name, value) = pair.split_once('=').ok_or("sasl.oauthbearer.config is not a list of name=value")?;
        match name {
            "principal" => principal = Some(value),
            "lifeSeconds" => life = Duration::from_secs(value.parse::<u32>()?.max(1).into()),
            "scope" => scope = value.split(',').collect(),
            _ => return Err(format!("sasl.oauthbearer.config knows no {name:?}").into()),
        }
    }
    let principal = principal.ok_or("sasl.oauthbearer.config names no principal")?;
    let expires = now + life;
    let mut claims = serde_json::json!({ "sub": principal, "iat": now.as_secs(), "exp": expires.as_secs() });
    if !scope.is_empty() {
        claims["scope"] = scope.into();
    }
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
    Ok(OAuthToken {
        token: format!("{header}.{claims}."),
        principal_name: principal.to_owned(),
        lifetime_ms: i64::try_from(expires.as_millis())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_who_and_until_when() {
        let token =
            make("principal=alice lifeSeconds=60 scope=read,write", Duration::from_secs(1000)).expect("a token");
        assert_eq!((token.principal_name.as_str(), token.lifetime_ms), ("alice", 1_060_000));
        let claims = token.token.split('.').nth(1).expect("claims");
        let claims: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64")).expect("json");
        assert_eq!(claims, serde_json::json!({"sub": "alice", "iat": 1000, "exp": 1060, "scope": ["read", "write"]}));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for config in ["", "principal", "lifeSeconds=60", "principal=a lifeSeconds=x", "principal=a color=red"] {
            assert!(make(config, Duration::ZERO).is_err(), "{config:?}");
        }
    }
}
