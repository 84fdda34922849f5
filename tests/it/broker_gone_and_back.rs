//! The broker is killed and comes back, and later hangs for a while: clients stay connected and their pings are
//! answered, lag is absent from the metrics and not zero or frozen, and nothing is lost or repeated.

use std::time::{Duration, Instant};

use tungstenite::{Bytes, Message};

use crate::harness::broker::Broker;
use crate::harness::corpus;
use crate::harness::gateway::{Gateway, Setup};
use crate::harness::json::JsonClient;
use crate::harness::ledger::Ledger;
use crate::harness::load::Load;
use crate::harness::v1::{V1Client, V1Event};
use crate::harness::wait;

const LIMIT: Duration = Duration::from_secs(90);
const LAG: &str = "websocket_kafka_consumer_lag";

struct Clients {
    v1: V1Client,
    v1_ledger: Ledger,
    json: JsonClient,
    json_ledger: Ledger,
    length: u64,
}

impl Clients {
    /// 300 more records per partition reach both.
    fn more(&mut self, broker: &Broker, topic: &str) {
        let producer = broker.kafka.producer(topic);
        for index in self.length..self.length + 300 {
            (0..2).for_each(|partition| producer.send(partition, &corpus::ordinary(partition, index)));
        }
        producer.flush();
        self.length += 300;
        let lengths = [self.length; 2];
        let followed = self.v1.follow(&mut self.v1_ledger, LIMIT, Load::check, |ledger| ledger.reached(&lengths));
        assert_eq!(followed.closed, None, "the v1 client stays connected");
        self.v1_ledger.assert_all("v1", &lengths);
        let (frames, closed) = self.json.follow(&mut self.json_ledger, LIMIT, |ledger, _| ledger.reached(&lengths));
        assert_eq!(closed, None, "the json client stays connected: {frames:?}");
        self.json_ledger.assert_all("json", &lengths);
        assert!(self.v1_ledger.gaps.is_empty() && self.json_ledger.gaps.is_empty());
    }

    fn pings_are_answered(&mut self) {
        self.v1.socket.send(Message::Ping(Bytes::from_static(b"there?")));
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match self.v1.next(deadline) {
                Some(V1Event::Pong(bytes)) if bytes == b"there?".as_slice() => break,
                Some(V1Event::Closed(closed)) => panic!("closed: {closed:?}"),
                Some(_) => {}
                None => panic!("no pong in five seconds"),
            }
        }
        self.json.ping("there?");
        let pong = self.json.until(&mut self.json_ledger, "pong", Duration::from_secs(5));
        assert_eq!(pong["nonce"], "there?");
    }
}

fn lag_is_known(gateway: &Gateway) {
    wait::until_true("lag 0 in both partitions", LIMIT, || gateway.metrics().all(LAG, &[]) == [0.0, 0.0]);
}

fn lag_is_absent(gateway: &Gateway) {
    wait::until_true("lag to be absent", LIMIT, || {
        let metrics = gateway.metrics();
        let no_sentinel = metrics.series.iter().all(|(_, value)| *value >= 0.0);
        assert!(no_sentinel, "unknown is absent, never negative or NaN:\n{}", metrics.text);
        metrics.all(LAG, &[]).is_empty()
    });
    gateway.health();
}

#[test]
fn broker_gone_and_back() {
    let mut broker = Broker::start("gone-and-back");
    let topic = broker.kafka.topic("gone", 2);
    let setup = Setup::new(&broker.kafka, &topic).set("KAFKA_LAG_CHECK_INTERVAL_SECS", 1);
    let mut gateway = setup.start();
    let mut clients = Clients {
        v1: V1Client::connect(gateway.ws()),
        v1_ledger: Ledger::new(),
        json: JsonClient::connect(gateway.ws()),
        json_ledger: Ledger::new(),
        length: 0,
    };
    clients.more(&broker, &topic);
    lag_is_known(&gateway);

    broker.kill();
    lag_is_absent(&gateway);
    clients.pings_are_answered();
    gateway.assert_alive();
    broker.up();
    clients.more(&broker, &topic);
    lag_is_known(&gateway);

    broker.pause();
    lag_is_absent(&gateway);
    clients.pings_are_answered();
    gateway.assert_alive();
    broker.resume();
    clients.more(&broker, &topic);
    lag_is_known(&gateway);
    gateway.stop();
    assert_eq!(broker.kafka.committed(&setup.group, &topic, 0).map(|(offset, _)| offset), Some(clients.length));
}
