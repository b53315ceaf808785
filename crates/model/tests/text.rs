//! What people type, and what they are told when it is wrong.

use mcr_model::spec::{ConfigSpec, InputSpec, OutputSpec, RelaySpec};
use mcr_model::{FieldError, Relay};
use proptest::prelude::*;

fn input(text: &str) -> Result<String, String> {
    let spec = InputSpec::from_endpoint(text).map_err(|error| error.to_string())?;
    spec.check("input").map(|input| input.to_string()).map_err(|errors| errors[0].to_string())
}

fn output(text: &str) -> Result<String, String> {
    let spec = OutputSpec::from_endpoint(text).map_err(|error| error.to_string())?;
    spec.check("output[0]").map(|output| format!("{output:?}")).map_err(|errors| errors[0].to_string())
}

fn relay(from: &str, to: &[&str]) -> Result<Relay, Vec<FieldError>> {
    let spec = RelaySpec {
        name: "camera".into(),
        input: InputSpec::from_endpoint(from).unwrap(),
        output: to.iter().map(|to| OutputSpec::from_endpoint(to).unwrap()).collect(),
        ..RelaySpec::default()
    };
    spec.check()
}

#[test]
fn endpoints_read_as_they_are_written() {
    for text in [
        "eth0:239.1.1.1:5001",
        "eth0:192.168.168.55@239.1.1.1:5001",
        "eth0.100:239.1.1.1:5001,vlan=7",
        "eth0:239.1.1.1:5001,vlan=7,outer-vlan=4094",
        "eth0:10.0.0.7:5001",
        "eth0:239.1.1.1:5001,source=10.0.0.1,source=10.0.0.2",
        "eth0:[ff3e::1]:5001",
        "eth0:[fd00:dead::55]@[ff3e::1]:5001,vlan=7",
        "eth0:[ff3e::1]:5001,source=fd00::1,source=fd00::2",
        "eth0:[fe80::7]:5001",
        "eth0:239.1.1.1:5001,exclude=10.0.0.1,exclude=10.0.0.2",
        "eth0:255.255.255.255:5001",
        "eth0:239.1.0.0/24:5000-5010",
        "eth0:10.0.0.1@239.1.0.0/31:5000-5001,vlan=7",
        "eth0:[ff3e::/120]:5000-5010",
        "eth0:10.0.0.7:5000-5010",
    ] {
        assert_eq!(input(text).as_deref(), Ok(text));
    }
    let text = output("eth1:239.2.2.2:6001,ttl=8,source=10.0.0.9,source-port=7,dscp=34,vlan=5").unwrap();
    for part in ["Ttl(8)", "10.0.0.9", "Port(7)", "Dscp(34)", "id: 5"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let text = output("eth1:239.2.2.2:6001,ttl=decrement,source=keep,source-port=keep,dscp=keep").unwrap();
    for part in ["ttl: Decrement", "source: Keep", "source_port: None", "dscp: Keep"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(output("eth1:10.0.0.9@239.2.2.2:6001"), output("eth1:239.2.2.2:6001,source=10.0.0.9"));
}

#[test]
fn a_wrong_endpoint_says_what_and_what_to_do() {
    for (text, wanted) in [
        ("", "no interface"),
        ("eth0", "no interface"),
        ("239.1.1.1:5001", "interface is missing"),
        (":239.1.1.1:5001", "interface is missing"),
        ("eth0:239.1.1.1", "no port"),
        ("eth0:239.1.1.1:http", "\"http\" is not a port number"),
        ("eth0:239.1.1.1:0", "port 0 is out of range"),
        ("eth0:239.1.1.1:65536", "port 65536 is out of range"),
        ("eth0:239.1.1:5001", "is not an IP address"),
        ("eth0:239.1.1.1:5001,vlan", "has no value"),
        ("eth0:239.1.1.1:5001,vlan=x", "is not a number"),
        ("eth0:239.1.1.1:5001,vlan=4095", "vlan 4095 is out of range"),
        ("eth0:239.1.1.1:5001,outer-vlan=7", "an outer tag is around another one"),
        ("eth0:239.1.1.1:5001,vlan=7,outer-vlan=0", "outer_vlan 0 is out of range"),
        ("eth0:239.1.1.1:5001,sorce=10.0.0.1", "did you mean \"source\"?"),
        ("eth0:239.1.1.1:5001,ttl=8", "there is no option \"ttl\" here"),
        ("eth0:224.0.0.256@239.1.1.1:5001", "is not an IP address"),
        ("eth0:224.0.0.9@239.1.1.1:5001", "not a unicast address"),
        ("a-very-long-interface-name:239.1.1.1:1", "not an interface name"),
        ("[ff3e::1]:5001", "interface is missing"),
        ("eth0:ff3e::1:5001", "write eth0:[ff3e::1]:5001"),
        ("eth0:[ff02::1%eth0]:5001", "names a zone"),
        ("eth0:[fe80::5%2]@[ff3e::1]:5001", "names a zone"),
        ("eth0:[ff01::1]:5001", "never leaves its host"),
        ("eth0:[::ffff:239.1.1.1]:5001", "write 239.1.1.1"),
        ("eth0:[::1]:5001", "not a multicast group"),
    ] {
        let error = input(text).expect_err(text);
        assert!(error.contains(wanted), "{text}: {error}");
    }
    assert!(output("eth1:239.2.2.2:6001,ttl=0").unwrap_err().contains("ttl 0 is out of range"));
    assert!(output("eth1:239.2.2.2:6001,dscp=64").unwrap_err().contains("dscp 64 is out of range"));
    assert!(output("eth1:239.2.2.2:6001,ttl=kep").unwrap_err().contains("ttl \"kep\" is not known; use 1 to 255"));
    assert!(output("eth1:239.2.2.2:6001,dscp=46:34").unwrap_err().contains("or a table as { 46 = 34"));
    assert!(output("eth1:239.2.2.2:6001,source=kept").unwrap_err().contains("or \"keep\""));
    assert!(output("eth1:239.2.2.2:6001,priority=3").unwrap_err().contains("a priority stands in a tag"));
    assert!(output("eth1:239.2.2.2:6001,fragment=yes").unwrap_err().contains("fragment=yes is neither true nor false"));
    assert!(output("eth1:239.2.2.2:6001,vlan=2,priority=8").unwrap_err().contains("priority 8 is out of range"));
    assert!(output("eth1:255.255.255.255:6001").unwrap_err().contains("is not a unicast address"));
    assert!(
        input("eth0:10.0.0.1@239.1.1.1:1,exclude=10.0.0.2").unwrap_err().contains("both sources and exclude_sources")
    );
    assert!(output("eth1:0.0.0.0:6001").unwrap_err().contains("not a multicast group"));
}

#[test]
fn a_relay_that_harms_is_refused_with_the_field() {
    let refused = |from, to: &[&str]| {
        let errors = relay(from, to).unwrap_err();
        (errors[0].field.clone(), errors[0].to_string())
    };
    let (field, text) = refused("eth0:224.0.0.251:5353", &["eth1:239.2.2.2:6001"]);
    assert_eq!(field, "input.group");
    assert!(text.contains("link_local = true"), "{text}");
    let (field, text) = refused("eth0:239.1.1.1:1", &["eth1:[ff02::fb]:5353"]);
    assert_eq!(field, "output[0].group");
    assert!(text.contains("link-local scope") && text.contains("link_local = true"), "{text}");
    let (field, text) = refused("eth0:10.0.0.1@[ff3e::1]:1", &["eth1:239.2.2.2:1"]);
    assert_eq!(field, "input.sources[0]");
    assert!(text.contains("different IP families"), "{text}");
    assert_eq!(refused("eth0:[ff3e::1]:1", &["eth1:239.2.2.2:1,source=fd00::1"]).0, "output[0].source");
    let (field, text) = refused("eth0:224.0.1.129:319", &["eth1:239.2.2.2:6001"]);
    assert_eq!(field, "input.port");
    assert!(text.contains("falsify the clock"), "{text}");
    assert_eq!(refused("eth0:239.1.1.1:1", &["eth1:239.2.2.2:320"]).0, "output[0].port");
    let (field, text) = refused("eth0:255.255.255.255:67", &["eth1:239.2.2.2:6001"]);
    assert_eq!(field, "input.address");
    assert!(text.contains("broadcast = true"), "{text}");
    assert!(refused("eth0:239.1.1.1:1", &["eth1:239.1.1.1:1", "eth0:239.1.1.1:1"]).1.contains("own input"));
    assert_eq!(refused("eth0:239.1.1.1:1", &["eth1:239.1.1.1:1", "eth1:239.1.1.1:1,ttl=3"]).0, "output[1]");
    assert_eq!(refused("eth0:239.1.1.1:1", &[]).0, "output");
    let many: Vec<String> = (0..65).map(|i| format!("eth1:239.2.2.{i}:1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(refused("eth0:239.1.1.1:1", &many).1.contains("65 outputs"));
}

#[test]
fn every_mistake_is_told_at_once() {
    let spec: RelaySpec = serde_json::from_str(
        r#"{ "name": "Camera 3",
             "input": { "interface": "eth0", "group": "10.0.0.1", "port": 0 },
             "output": [ { "interface": "", "group": "239.1.1.1", "address": "10.0.0.1", "port": 1, "ttl": 300 } ] }"#,
    )
    .unwrap();
    let fields: Vec<String> = spec.check().unwrap_err().into_iter().map(|error| error.field).collect();
    let wanted = ["name", "input.group", "input.port", "output[0].interface", "output[0].address", "output[0].ttl"];
    assert_eq!(fields, wanted);
}

#[test]
fn a_range_reads_back_as_it_was_written() {
    let range = relay("eth0:239.1.0.0/24:5000-5010", &["eth1:[ff35::/120]:6000-6010", "eth2:239.3.0.1:7000"]).unwrap();
    let spec = RelaySpec::from(&range);
    let json = serde_json::to_value(&spec).unwrap();
    assert_eq!((&json["input"]["group"], &json["input"]["port"]), (&"239.1.0.0/24".into(), &"5000-5010".into()));
    assert_eq!((&json["output"][1]["group"], &json["output"][1]["port"]), (&"239.3.0.1".into(), &7000.into()));
    let back: RelaySpec = serde_json::from_value(json).unwrap();
    assert_eq!(back.check().unwrap(), range);
    assert_eq!(range.outputs()[0].to_string(), "eth1:[ff35::/120]:6000-6010");
}

#[test]
fn toml_json_and_text_are_one() {
    let config: ConfigSpec = toml::from_str(
        r#"
        [[relay]]
        name   = "camera-3"
        input  = { interface = "eth0", group = "239.1.1.1", port = 5001, sources = ["192.168.168.55"] }
        output = [ { interface = "eth1", group = "239.2.2.2", port = 6001, ttl = 16 } ]
        "#,
    )
    .unwrap();
    let from_toml = config.relay[0].check().unwrap();
    let json = serde_json::to_string(&RelaySpec::from(&from_toml)).unwrap();
    let from_json: RelaySpec = serde_json::from_str(&json).unwrap();
    assert_eq!(from_json.check().unwrap(), from_toml);
    assert_eq!(from_toml.input().to_string(), "eth0:192.168.168.55@239.1.1.1:5001");
    assert!(toml::from_str::<ConfigSpec>("[[relais]]").is_err());
}

#[test]
fn header_fields_read_back_as_they_were_written() {
    let spec = |fields: &str| -> OutputSpec {
        let text = format!(r#"{{ "interface": "eth1", "group": "239.2.2.2", "port": 6001, {fields} }}"#);
        serde_json::from_str(&text).unwrap()
    };
    for fields in [
        r#""ttl": 7"#,
        r#""ttl": "keep", "dscp": 46"#,
        r#""fragment": true"#,
        r#""source": "10.1.0.77", "own_source": true"#,
        r#""ttl": "decrement", "dscp": {"46": 34, "0": 8, "*": 1}, "source": "keep""#,
    ] {
        let output = spec(fields).check("output[0]").unwrap();
        assert_eq!(OutputSpec::from(&output).check("output[0]").unwrap(), output, "{fields}");
    }
    let nine: Vec<String> = (0..9).map(|from| format!("\"{from}\": 1")).collect();
    for (fields, wanted) in [
        (r#""ttl": 256"#.to_owned(), "output[0].ttl: ttl 256 is out of range"),
        (r#""dscp": {}"#.to_owned(), "output[0].dscp: a table of code points names none"),
        (r#""dscp": {"64": 1}"#.to_owned(), "output[0].dscp: dscp 64 is out of range"),
        (r#""dscp": {"x": 1}"#.to_owned(), "\"x\" is no code point"),
        (r#""dscp": {"1": -1}"#.to_owned(), "dscp -1 is out of range"),
        (
            r#""own_source": true"#.to_owned(),
            "output[0].own_source: own_source adds a source that is named, and none is given",
        ),
        (r#""source": "keep", "own_source": true"#.to_owned(), "a source that is named, and it stays as it arrived"),
        (
            r#""source": "10.1.0.77", "own_source": true, "vlan": 7"#.to_owned(),
            "output[0].own_source: the host answers for its addresses on the interface, not behind a tag",
        ),
        (format!(r#""dscp": {{{}}}"#, nine.join(", ")), "9 code points are more than the 8 that a table may name"),
    ] {
        let errors = spec(&fields).check("output[0]").unwrap_err();
        assert!(errors[0].to_string().contains(wanted), "{fields}: {errors:?}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_an_endpoint_panic(text in "\\PC{0,60}") {
        let _ = input(&text);
        let _ = output(&text);
    }

    #[test]
    fn near_endpoints_never_panic(text in "[a-z0-9.:@,=\\[\\]]{0,40}") {
        let _ = input(&text);
        let _ = output(&text);
    }

    #[test]
    fn what_is_shown_can_be_typed(group in 0xe000_0100u32..0xf000_0000, port in 1u16.., vlan in proptest::option::of(1u16..4095)) {
        let vlan = vlan.map(|vlan| format!(",vlan={vlan}")).unwrap_or_default();
        let text = format!("eth0:{}:{port}{vlan}", std::net::Ipv4Addr::from(group));
        prop_assert_eq!(input(&text), Ok(text));
    }
}

#[test]
fn a_watch_is_checked_field_by_field_and_reads_back() {
    let spec = |watch: &str| -> RelaySpec {
        let text = format!(
            r#"{{"name": "a", "input": {{"interface": "eth0", "group": "239.1.1.1", "port": 5001}},
               "output": [{{"interface": "eth1", "group": "239.2.2.2", "port": 6001}}] {watch}}}"#
        );
        serde_json::from_str(&text).unwrap()
    };
    for good in [r#", "silent_after": "500ms""#, r#", "expect": {"min_bits_per_second": 1, "max_bits_per_second": 9}"#]
    {
        let relay = spec(good).check().unwrap();
        assert_eq!(RelaySpec::from(&relay).check().unwrap(), relay, "{good}");
    }
    assert_eq!(RelaySpec::from(&spec(r#", "silent_after": "1s""#).check().unwrap()).silent_after, None);
    for (bad, wanted) in [
        (r#", "silent_after": "99ms""#, "silent_after: silence after 99ms is out of range; use 100ms to 24h"),
        (r#", "silent_after": "5""#, "silent_after: \"5\" has no unit of time"),
        (r#", "expect": {}"#, "expect: it expects nothing; give min_bits_per_second"),
        (r#", "expect": {"min_bits_per_second": 0}"#, "expect.min_bits_per_second: 0 bits per second are out of range"),
        (r#", "expect": {"min_bits_per_second": 9, "max_bits_per_second": 8}"#, "no rate is at least 9 and at most 8"),
    ] {
        let errors = spec(bad).check().unwrap_err();
        assert!(errors[0].to_string().contains(wanted), "{bad}: {errors:?}");
    }
}
