//! Names that mean that their value is a secret. Pure.

/// Without case and punctuation. A name counts if it ends with one of these: `OPENAI_API_KEY`, `x-api-key`.
/// So does the plural. `token` by itself is not one of them: agents call the pieces of their texts so.
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

/// The plural of these is a number of tokens that a model was given or gave; that of all others is several secrets.
const COUNTED: [&str; 4] = ["idtoken", "bottoken", "usertoken", "sessiontoken"];

/// Headers whose value goes on behind blanks and semicolons.
const HEADERS: [&str; 3] = ["authorization", "cookie", "cookies"];

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

    pub(super) fn is_secret(&self, name: &[u8]) -> bool {
        let mut buffer = [0; NAME_BYTES_MAX];
        let name = tail(name, &mut buffer);
        let known = |name: &[u8]| WELL_KNOWN.into_iter().find(|known| ends(name, known));
        let several = |singular: &[u8]| known(singular).is_some_and(|known| !COUNTED.contains(&known));
        known(name).is_some()
            || name.strip_suffix(b"s").is_some_and(several)
            || self.own.iter().any(|known| ends(name, known))
    }

    /// Whether the value of this name, one of a secret, is all of a line.
    pub(super) fn is_header(name: &[u8]) -> bool {
        let mut buffer = [0; NAME_BYTES_MAX];
        let name = tail(name, &mut buffer);
        HEADERS.into_iter().any(|header| ends(name, header))
    }
}

/// Most names differ in their last letter already, which spares a comparison of texts.
fn ends(name: &[u8], known: &str) -> bool {
    name.last() == known.as_bytes().last() && name.ends_with(known.as_bytes())
}

/// The end of a name, in one spelling.
fn tail<'a>(name: &[u8], buffer: &'a mut [u8; NAME_BYTES_MAX]) -> &'a [u8] {
    let mut length = 0;
    for byte in plain(&name[name.len().saturating_sub(NAME_BYTES_MAX)..]) {
        buffer[length] = byte;
        length += 1;
    }
    &buffer[..length]
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
            "api_keys",
            "Passwords",
            "secrets",
            "cookies",
            "accessTokens",
            "api_tokens",
        ] {
            assert!(names.is_secret(name.as_bytes()), "{name}");
        }
        for name in [
            "token",
            "tokens",
            "input_tokens",
            "max_token",
            "max_tokens",
            "invalid_tokens",
            "user_tokens",
            "session_tokens",
            "key",
            "primary_key",
            "cache_key",
            "secretary",
            "author",
            "password_length",
            "passwords_seen",
            "",
        ] {
            assert!(!names.is_secret(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn an_application_has_names_of_its_own() {
        let mut names = Names::default();
        names.add("Card-PIN");
        names.add("--");
        names.add("token");
        assert!(names.is_secret(b"token") && !names.is_secret(b"max_tokens"), "of these the plural is another name");
        assert!(names.is_secret(b"customer_card_pin") && !names.is_secret(b"pin") && !names.is_secret(b"other"));
        assert!(names.is_secret(format!("{}card_pin", "x".repeat(500)).as_bytes()));
    }
}
