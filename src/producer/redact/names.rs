//! Names that mean that their value is a secret. Pure.

/// Without case and punctuation. A name counts if it ends with one of these: `OPENAI_API_KEY`, `x-api-key`.
/// `token` by itself is not one of them: agents call the pieces of their texts so.
const WELL_KNOWN: [&str; 31] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "secretkey",
    "secretaccesskey",
    "apikey",
    "accesskey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "accountkey",
    "authkey",
    "accesstoken",
    "refreshtoken",
    "sessiontoken",
    "securitytoken",
    "bearertoken",
    "authtoken",
    "apitoken",
    "idtoken",
    "bottoken",
    "csrftoken",
    "usertoken",
    "authorization",
    "cookie",
    "credential",
    "credentials",
    "connectionstring",
    "jwt",
];

/// Of a longer name the end is looked at.
const NAME_BYTES_MAX: usize = 96;

/// The well-known names, and an application's own.
#[derive(Clone, Default, Debug)]
pub(super) struct Names {
    own: Vec<String>,
}

impl Names {
    pub(super) fn add(&mut self, name: &str) {
        let plain: String = plain(name.as_bytes()).map(char::from).collect();
        if !plain.is_empty() {
            self.own.push(plain);
        }
    }

    pub(super) fn is_secret(&self, name: &str) -> bool {
        let mut buffer = [0u8; NAME_BYTES_MAX];
        let bytes = name.as_bytes();
        let tail = &bytes[bytes.len().saturating_sub(NAME_BYTES_MAX)..];
        let mut length = 0;
        for byte in plain(tail) {
            buffer[length] = byte;
            length += 1;
        }
        let name = &buffer[..length];
        // Most names differ in their last letter already, which spares a comparison of texts.
        let ends = |known: &str| name.last() == known.as_bytes().last() && name.ends_with(known.as_bytes());
        WELL_KNOWN.into_iter().any(ends) || self.own.iter().any(|known| ends(known))
    }
}

fn plain(name: &[u8]) -> impl Iterator<Item = u8> {
    name.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_in_every_spelling() {
        let names = Names::default();
        for name in [
            "password",
            "DB_PASSWORD",
            "apiKey",
            "x-api-key",
            "OPENAI_API_KEY",
            "aws_secret_access_key",
            "Authorization",
            "client.secret",
            "accessToken",
            "Set-Cookie",
            "google_credentials",
        ] {
            assert!(names.is_secret(name), "{name}");
        }
        for name in [
            "token",
            "tokens",
            "input_tokens",
            "max_token",
            "key",
            "primary_key",
            "cache_key",
            "secretary",
            "author",
            "password_length",
            "passwords_seen",
            "",
        ] {
            assert!(!names.is_secret(name), "{name}");
        }
    }

    #[test]
    fn an_application_has_names_of_its_own() {
        let mut names = Names::default();
        names.add("Card-PIN");
        names.add("--");
        assert!(names.is_secret("customer_card_pin") && !names.is_secret("pin") && !names.is_secret("other"));
        assert!(names.is_secret(&format!("{}card_pin", "x".repeat(500))));
    }
}
