//! `kafka.assignment = group`: hosts of one group share the partitions, say that they hold only a share, and when one
//! leaves or dies the other goes on with all of them; nothing is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::harness::corpus;
use crate::harness::gateway::{Gateway, Setup};
use crate::harness::json::JsonClient;
use crate::harness::kafka::{Kafka, Producer};
use crate::harness::ledger::Ledger;
use crate::harness::wait;

const LIMIT: Duration = Duration::from_secs(90);
const PARTITIONS: u32 = 4;

fn held(gateway: &Gateway) -> BTreeSet<u64> {
    let Ok(client) = JsonClient::try_connect(gateway.ws()) else { return BTreeSet::new() };
    assert_eq!(client.hello["assignment"], "group", "{}", client.hello);
    let partitions = client.hello["partitions"].as_array().expect("partitions").iter();
    partitions.map(|partition| partition["partition"].as_u64().expect("a number")).collect()
}

struct Pair {
    gateways: Vec<Gateway>,
    producer: Producer,
    length: u64,
}

impl Pair {
    fn start(what: &str) -> Self {
        let kafka = Kafka::shared();
        let topic = kafka.topic(what, PARTITIONS as i32);
        let setup = Setup::new(&kafka, &topic)
            .set("DASHSTREAM_KAFKA_ASSIGNMENT", "group")
            .set("DASHSTREAM_KAFKA_SESSION_TIMEOUT", "6s")
            .set("DASHSTREAM_KAFKA_COMMIT_INTERVAL", "1s");
        let group = setup.group.clone();
        let other = setup.sibling(&kafka).set("KAFKA_GROUP_ID", group);
        let gateways = vec![setup.start(), other.start()];
        let pair = Self { gateways, producer: kafka.producer(&topic), length: 0 };
        wait::until_true("both to hold a share, and together everything", LIMIT, || {
            let shares = [held(&pair.gateways[0]), held(&pair.gateways[1])];
            shares.iter().all(|share| !share.is_empty())
                && shares[0].is_disjoint(&shares[1])
                && shares[0].len() + shares[1].len() == PARTITIONS as usize
        });
        pair
    }

    fn produce(&mut self, count: u64) {
        for index in self.length..self.length + count {
            (0..PARTITIONS).for_each(|partition| self.producer.send(partition, &corpus::ordinary(partition, index)));
        }
        self.producer.flush();
        self.length += count;
    }
}

/// Reads to the end of all `partitions`.
fn follow(client: &mut JsonClient, ledger: &mut Ledger, partitions: &BTreeSet<u64>, length: u64) {
    let (_, closed) = client.follow(ledger, LIMIT, |ledger, _| {
        partitions
            .iter()
            .all(|partition| ledger.cursor().get(&(*partition as u32)).is_some_and(|last| last + 1 >= length))
    });
    assert_eq!(closed, None);
}

#[test]
fn hosts_share_and_take_over() {
    let mut pair = Pair::start("share");
    let shares = [held(&pair.gateways[0]), held(&pair.gateways[1])];
    let (mut first, mut second) =
        (JsonClient::connect(pair.gateways[0].ws()), JsonClient::connect(pair.gateways[1].ws()));
    let (mut first_ledger, mut second_ledger) = (Ledger::new(), Ledger::new());
    pair.produce(200);
    follow(&mut first, &mut first_ledger, &shares[0], 200);
    follow(&mut second, &mut second_ledger, &shares[1], 200);
    for partition in 0..PARTITIONS {
        let counts = [first_ledger.count(partition), second_ledger.count(partition)];
        assert!(counts == [200, 0] || counts == [0, 200], "partition {partition}: {counts:?}");
    }
    // A cursor for what this host does not hold is answered as that.
    let mut client = JsonClient::connect(pair.gateways[0].ws());
    let cursor = (0..PARTITIONS).map(|partition| (partition, 99)).collect();
    client.resume(&client.stream(), &cursor);
    let answers = client.until(&mut Ledger::new(), "answers", LIMIT);
    for answer in answers["answers"].as_array().expect("answers") {
        let here = shares[0].contains(&answer["partition"].as_u64().expect("a partition"));
        assert_eq!(answer["answer"], if here { "resumed" } else { "not_here" }, "{answers}");
    }

    let everything: BTreeSet<u64> = (0..u64::from(PARTITIONS)).collect();
    pair.gateways[0].stop();
    pair.produce(200);
    follow(&mut second, &mut second_ledger, &everything, 400);
    for partition in 0..PARTITIONS {
        assert_eq!(second_ledger.missing(partition, 200, 400), [0; 0], "what came after the other left");
    }
    assert_eq!(held(&pair.gateways[1]), everything);
    pair.gateways[1].stop();
}

#[test]
fn the_share_of_a_killed_host_is_taken_over() {
    let mut pair = Pair::start("share-kill");
    let mut second = JsonClient::connect(pair.gateways[1].ws());
    let mut ledger = Ledger::new();
    pair.gateways[0].kill();
    pair.produce(100);
    let everything: BTreeSet<u64> = (0..u64::from(PARTITIONS)).collect();
    follow(&mut second, &mut ledger, &everything, 100);
    ledger.assert_all("the client of the one that is left", &[100; PARTITIONS as usize]);
    pair.gateways[1].stop();
}
