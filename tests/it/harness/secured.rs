//! A real Kafka that asks who you are and what you may: StandardAuthorizer, a super user, a restricted user, every
//! protocol and mechanism, and listeners whose certificates are wrong in one way each. Certificates are made anew by
//! every run.
//!
//! One broker serves all tests of a run: it starts with the first that asks. Its plain listener is the door of the
//! tests themselves, whose user (`ANONYMOUS`) may do everything.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io, net, thread};

use super::broker::{die_with_parent, scratch};
use super::command::{Answer, answer_with};
use super::gateway::Setup;
use super::kafka::Kafka;
use super::ports;

/// May do everything.
pub const ADMIN: (&str, &str) = ("admin", "admin-secret");
/// May do what [`Secured::allow`] gave.
pub const BOB: (&str, &str) = ("bob", "bob-secret");
/// Opens `client-locked.key`.
pub const KEY_PASSWORD: &str = "open-secret";

pub struct Secured {
    /// Ends with the process; held so that it is somebody's.
    _broker: Option<Child>,
    /// Plain, for the tests.
    pub kafka: Kafka,
    tls: PathBuf,
    ssl: u16,
    mutual: u16,
    sasl_ssl: u16,
    sasl_plaintext: u16,
    expired: u16,
    other_name: u16,
}

/// How one comes to the cluster.
#[derive(Clone, Debug)]
pub struct Door {
    pub brokers: String,
    /// Environment as an operator would set it.
    pub environment: Vec<(&'static str, String)>,
}

impl Door {
    pub fn set(mut self, key: &'static str, value: impl ToString) -> Self {
        self.environment.retain(|(name, _)| *name != key);
        self.environment.push((key, value.to_string()));
        self
    }

    pub fn without(mut self, key: &str) -> Self {
        self.environment.retain(|(name, _)| *name != key);
        self
    }

    /// What a command answers that goes through this door.
    pub fn answer(&self, topic: &str, arguments: &[&str]) -> Answer {
        let ours = [("KAFKA_BROKERS", self.brokers.as_str()), ("KAFKA_TOPIC", topic)];
        let given = self.environment.iter().map(|(name, text)| (*name, text.as_str()));
        answer_with(arguments, &ours.into_iter().chain(given).collect::<Vec<_>>())
    }

    /// A setup of the gateway that goes through this door.
    pub fn setup(&self, kafka: &Kafka, topic: &str) -> Setup {
        let setup = Setup::new(kafka, topic).set("KAFKA_BROKERS", &self.brokers);
        self.environment.iter().fold(setup, |setup, (key, value)| setup.set(key, value))
    }
}

impl Secured {
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Secured> = OnceLock::new();
        SHARED.get_or_init(|| {
            let (started, ready) = std::sync::mpsc::sync_channel(1);
            // The broker ends with the thread that started it, and a test's thread ends with its test.
            thread::spawn(move || {
                started.send(Self::start()).expect("somebody waits");
                loop {
                    thread::park();
                }
            });
            ready.recv().expect("the secured broker starts")
        })
    }

    fn start() -> Self {
        assert!(std::env::var("DASHSTREAM_TEST_KAFKA").is_ok(), "DASHSTREAM_TEST_KAFKA is not set: run tests/run");
        let directory = scratch("secured");
        let tls = directory.join("tls");
        make_certificates(&tls);
        let (plain, controller) = (ports::free(), ports::free());
        let mut secured = Self {
            _broker: None,
            kafka: Kafka { brokers: format!("127.0.0.1:{plain}") },
            ssl: ports::free(),
            mutual: ports::free(),
            sasl_ssl: ports::free(),
            sasl_plaintext: ports::free(),
            expired: ports::free(),
            other_name: ports::free(),
            tls,
        };
        let properties = directory.join("secured.properties");
        fs::write(&properties, secured.properties(plain, controller)).expect("properties are written");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/broker");
        let mut command = Command::new(script);
        command
            .arg(&directory)
            .arg(plain.to_string())
            .arg(controller.to_string())
            .env("DASHSTREAM_TEST_KAFKA_HEAP", "320m")
            .env("DASHSTREAM_TEST_KAFKA_PROPERTIES", &properties)
            .env("DASHSTREAM_TEST_KAFKA_SCRAM", [ADMIN, BOB].map(|(name, word)| format!("{name}:{word}")).join(" "))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        die_with_parent(&mut command);
        secured._broker = Some(command.spawn().expect("tests/kafka/broker starts"));
        secured.kafka.wait_for_metadata();
        secured
    }

    fn properties(&self, plain: u16, controller: u16) -> String {
        let tls = self.tls.display();
        let secured = [
            ("SSL", self.ssl, "SSL"),
            ("MUTUAL", self.mutual, "SSL"),
            ("EXPIRED", self.expired, "SSL"),
            ("OTHERNAME", self.other_name, "SSL"),
            ("SASL_SSL", self.sasl_ssl, "SASL_SSL"),
            ("SASL_PLAINTEXT", self.sasl_plaintext, "SASL_PLAINTEXT"),
        ];
        let mut advertised = format!("PLAINTEXT://127.0.0.1:{plain}");
        let mut protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned();
        for (name, port, protocol) in secured {
            advertised.push_str(&format!(",{name}://localhost:{port}"));
            protocols.push_str(&format!(",{name}:{protocol}"));
        }
        let listeners = advertised.replace("localhost", "127.0.0.1");
        let mut text = format!(
            "listeners={listeners},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners={advertised}\n\
             listener.security.protocol.map={protocols}\n\
             authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
             super.users=User:ANONYMOUS;User:{};User:CN=client\n\
             ssl.keystore.type=PEM\nssl.truststore.type=PEM\nssl.truststore.location={tls}/ca.pem\n\
             ssl.keystore.location={tls}/server-store.pem\n\
             listener.name.mutual.ssl.client.auth=required\n\
             listener.name.expired.ssl.keystore.location={tls}/expired-store.pem\n\
             listener.name.othername.ssl.keystore.location={tls}/other-store.pem\n\
             sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER\n",
            ADMIN.0
        );
        for listener in ["sasl_ssl", "sasl_plaintext"] {
            let jaas = |mechanism: &str, module: &str| {
                format!(
                    "listener.name.{listener}.{mechanism}.sasl.jaas.config=org.apache.kafka.common.security.{module};\n"
                )
            };
            let users = [ADMIN, BOB].map(|(name, word)| format!(" user_{name}=\"{word}\"")).concat();
            text.push_str(&jaas("plain", &format!("plain.PlainLoginModule required{users}")));
            text.push_str(&jaas("scram-sha-256", "scram.ScramLoginModule required"));
            text.push_str(&jaas("scram-sha-512", "scram.ScramLoginModule required"));
            let module = "oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\"";
            text.push_str(&jaas("oauthbearer", module));
        }
        // Only SCRAM-SHA-256, for a mechanism that is not offered.
        text.push_str("listener.name.sasl_plaintext.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256\n");
        text
    }

    pub fn file(&self, name: &str) -> String {
        self.tls.join(name).display().to_string()
    }

    fn door(&self, port: u16, protocol: &str) -> Door {
        let door = Door { brokers: format!("localhost:{port}"), environment: Vec::new() };
        let door = door.set("KAFKA_SECURITY_PROTOCOL", protocol);
        match protocol {
            "sasl_plaintext" => door,
            _ => door.set("KAFKA_SSL_CA_LOCATION", self.file("ca.pem")),
        }
    }

    /// TLS without a name: the user is `ANONYMOUS`, who may do everything.
    pub fn ssl(&self) -> Door {
        self.door(self.ssl, "ssl")
    }

    /// The broker wants a certificate of ours.
    pub fn mutual(&self) -> Door {
        self.door(self.mutual, "ssl")
            .set("KAFKA_SSL_CERTIFICATE_LOCATION", self.file("client.pem"))
            .set("KAFKA_SSL_KEY_LOCATION", self.file("client.key"))
    }

    /// The same, with a key that only [`KEY_PASSWORD`] opens.
    pub fn mutual_locked(&self) -> Door {
        self.mutual()
            .set("KAFKA_SSL_KEY_LOCATION", self.file("client-locked.key"))
            .set("DASHSTREAM_KAFKA_SSL_KEY_PASSWORD", KEY_PASSWORD)
    }

    /// Every protocol and mechanism, for somebody who may do everything.
    pub fn open_doors(&self) -> Vec<(&'static str, Door)> {
        vec![
            ("ssl", self.ssl()),
            ("ssl with a certificate of ours", self.mutual()),
            ("another name, not looked at", self.other_name().set("KAFKA_SSL_ENDPOINT_ALGORITHM", "none")),
            ("PLAIN", self.sasl_ssl("PLAIN", ADMIN)),
            ("SCRAM-SHA-256", self.sasl_ssl("SCRAM-SHA-256", ADMIN)),
            ("SCRAM-SHA-512", self.sasl_ssl("SCRAM-SHA-512", ADMIN)),
            ("OAUTHBEARER", self.sasl_ssl("OAUTHBEARER", ADMIN)),
            ("PLAIN without TLS", self.sasl_plaintext("PLAIN", ADMIN)),
            ("SCRAM without TLS", self.sasl_plaintext("SCRAM-SHA-256", ADMIN)),
        ]
    }

    /// Its certificate was valid for a moment, and that is over.
    pub fn expired(&self) -> Door {
        self.door(self.expired, "ssl")
    }

    /// Its certificate is for `kafka.example`.
    pub fn other_name(&self) -> Door {
        self.door(self.other_name, "ssl")
    }

    pub fn sasl_ssl(&self, mechanism: &str, (name, password): (&str, &str)) -> Door {
        let door = self.door(self.sasl_ssl, "sasl_ssl").set("KAFKA_SASL_MECHANISM", mechanism);
        match mechanism {
            "OAUTHBEARER" => {
                door.set("DASHSTREAM_KAFKA_SASL_OAUTHBEARER_CONFIG", format!("principal={name} lifeSeconds=600"))
            }
            _ => door.set("KAFKA_SASL_USERNAME", name).set("KAFKA_SASL_PASSWORD", password),
        }
    }

    /// Offers only PLAIN and SCRAM-SHA-256.
    pub fn sasl_plaintext(&self, mechanism: &str, (name, password): (&str, &str)) -> Door {
        self.door(self.sasl_plaintext, "sasl_plaintext")
            .set("KAFKA_SASL_MECHANISM", mechanism)
            .set("KAFKA_SASL_USERNAME", name)
            .set("KAFKA_SASL_PASSWORD", password)
    }

    /// Gives [`BOB`] rights. `resource` as Kafka's own tool takes it: `["--topic", name]`.
    pub fn allow(&self, resource: &[&str], operations: &[&str]) {
        let libs = std::env::var("DASHSTREAM_TEST_KAFKA_LIBS")
            .unwrap_or_else(|_| format!("{}/tests/.tools/kafka-libs", env!("CARGO_MANIFEST_DIR")));
        let mut command = Command::new("java");
        command.args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", &format!("{libs}/*")]);
        command.args(["org.apache.kafka.tools.AclCommand", "--bootstrap-server", &self.kafka.brokers, "--add"]);
        command.args(["--allow-principal", &format!("User:{}", BOB.0)]).args(resource);
        for operation in operations {
            command.args(["--operation", operation]);
        }
        let output = command.output().expect("java runs");
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Everything that the listeners and their clients show each other, signed by one authority; and another authority
/// that signed nothing of it.
pub fn make_certificates(directory: &Path) {
    fs::create_dir_all(directory).expect("a directory for certificates");
    for authority in ["ca", "stranger"] {
        let (key, pem) = (format!("{authority}.key"), format!("{authority}.pem"));
        let subject = format!("/CN={authority} of the tests");
        let constraint = "basicConstraints=critical,CA:TRUE";
        let request = ["req", "-x509", "-nodes", "-days", "30", "-subj", &subject, "-addext", constraint];
        openssl(directory, &[&request[..], &NEW_KEY, &["-keyout", &key, "-out", &pem]].concat());
    }
    let here = "DNS:localhost,IP:127.0.0.1";
    for (who, names, days) in [
        ("server", here, "30"),
        ("client", "DNS:client", "30"),
        ("expired", here, "0"),
        ("other", "DNS:kafka.example", "30"),
    ] {
        let file = |ending: &str| format!("{who}{ending}");
        let subject = format!("/CN={who}");
        let request = ["req", "-nodes", "-subj", &subject];
        openssl(directory, &[&request[..], &NEW_KEY, &["-keyout", &file(".key"), "-out", &file(".csr")]].concat());
        fs::write(directory.join(file(".ext")), format!("subjectAltName={names}\n")).expect("an extension file");
        let sign = ["x509", "-req", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", days];
        let files = ["-in", &file(".csr"), "-extfile", &file(".ext"), "-out", &file(".pem")];
        openssl(directory, &[&sign[..], &files[..]].concat());
        let store = ["key", "pem"].map(|part| fs::read_to_string(directory.join(format!("{who}.{part}"))));
        let store: io::Result<String> = store.into_iter().collect();
        fs::write(directory.join(file("-store.pem")), store.expect("key and certificate")).expect("a store");
    }
    let lock = ["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-in", "client.key", "-out", "client-locked.key"];
    openssl(directory, &[&lock[..], &["-passout", &format!("pass:{KEY_PASSWORD}")]].concat());
    fs::write(directory.join("empty.pem"), "").expect("a file without a certificate");
}

const NEW_KEY: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];

fn openssl(directory: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(directory).output().expect("openssl runs");
    assert!(output.status.success(), "openssl {arguments:?}: {}", text(&output.stderr));
}

/// Stands before a listener and counts who comes: how often somebody tries is seen nowhere better.
pub struct Counter {
    pub port: u16,
    came: std::sync::Arc<AtomicU64>,
}

impl Counter {
    pub fn before(brokers: &str) -> Self {
        let target: String = brokers.replace("localhost", "127.0.0.1");
        let listener = net::TcpListener::bind((net::Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let came = std::sync::Arc::new(AtomicU64::new(0));
        let counter = came.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { continue };
                counter.fetch_add(1, Ordering::Relaxed);
                // A broker that is not there is seen by the client as one that hangs up.
                let Ok(broker) = net::TcpStream::connect(&target) else { continue };
                pass_on(&client, &broker);
                pass_on(&broker, &client);
            }
        });
        Self { port, came }
    }

    pub fn came(&self) -> u64 {
        self.came.load(Ordering::Relaxed)
    }
}

fn pass_on(from: &net::TcpStream, to: &net::TcpStream) {
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
    thread::spawn(move || {
        // However it ends, both sides learn that it did.
        let _ended = io::copy(&mut from, &mut to);
        let _closed = (to.shutdown(net::Shutdown::Both), from.shutdown(net::Shutdown::Both));
    });
}
