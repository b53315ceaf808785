//! The API on the network: who gets in, with what, and what strangers can do to those who may.

mod authority;
mod schemathesis;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use mcr_testbed::{Namespace, Pty, wait_until};
use serde_json::{Value, json};

use self::authority::{Authority, Lasts};
use crate::scale::pick;
use crate::service::{MCR, SOON, Service, text};

/// Where the tests' daemon listens, in a namespace of its own.
const ADDRESS: &str = "127.0.0.1:7443";
const URL: &str = "https://127.0.0.1:7443";

/// A daemon that serves the network, with certificates of an authority of its own.
struct Served {
    service: Service,
    namespace: Namespace,
    folder: tempfile::TempDir,
    authority: Authority,
}

impl Served {
    fn start(name: &str) -> Self {
        let namespace = Namespace::new(name);
        namespace.ip("link set lo up multicast on");
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("mcr test authority");
        authority.write_to(&folder.path().join("ca.pem"));
        for (name, common) in
            [("server", "relay-1"), ("boss", "boss"), ("noc", "noc"), ("view", "view"), ("stranger", "stranger")]
        {
            authority.sign(common, Lasts::Long).write_to(folder.path(), name);
        }
        std::fs::write(folder.path().join("access.toml"), access(folder.path())).unwrap();
        let service =
            Service::start_with(&namespace, "", &["--access", path(&folder, "access.toml").to_str().unwrap()]);
        Self { service, namespace, folder, authority }
    }

    fn path(&self, name: &str) -> PathBuf {
        path(&self.folder, name)
    }

    /// Runs a verb over the network, with these options.
    fn mcr(&self, options: &[&str], verb: &[&str]) -> Output {
        let mut command = self.namespace.command(MCR);
        command.env_remove("MCR_SOCKET").env("HOME", self.folder.path()).env_remove("XDG_CONFIG_HOME");
        command.args(verb).args(["--server", URL, "--cacert"]).arg(self.path("ca.pem")).args(options);
        command.output().unwrap()
    }

    /// The same with the client certificate of that name.
    fn mcr_as(&self, name: &str, verb: &[&str]) -> Output {
        let (cert, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        self.mcr(&["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()], verb)
    }

    /// One request with curl; its status, 0 when there was no answer.
    fn curl(&self, arguments: &[&str]) -> u16 {
        let mut curl = self.namespace.command("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5", "--cacert"]);
        let output = curl.arg(self.path("ca.pem")).args(arguments).output().unwrap();
        text(&output.stdout).parse().unwrap()
    }

    fn curl_as(&self, name: &str, arguments: &[&str]) -> u16 {
        let (cert, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}.key")));
        let mut all = vec!["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
        all.extend(arguments);
        self.curl(&all)
    }
}

fn path(folder: &tempfile::TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

fn access(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"
        [remote]
        listen = ["{ADDRESS}"]
        certificate = "{folder}/server.pem"
        key = "{folder}/server.key"
        client_ca = "{folder}/ca.pem"
        hosts = ["relay-alias"]
        origins = ["https://noc.example.net"]
        [[allow]]
        certificate = "boss"
        role = "admin"
        [[allow]]
        certificate = "noc"
        role = "operator"
        [[allow]]
        certificate = "view"
        role = "viewer"
        [[allow]]
        unix_user = "daemon"
        role = "viewer"
        "#
    )
}

fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    text(&output.stderr)
}

const ADD: [&str; 6] = ["add", "far", "--from", "lo:239.1.1.1:5001", "--to", "lo:239.2.2.2:6001"];

/// The diagnosis is that of the daemon's host, as far as a daemon without privilege sees it.
#[test]
fn explain_discover_and_top_look_at_the_daemons_host() {
    let served = Served::start("tools");
    let added = served.mcr_as("noc", &ADD);
    assert!(added.status.success(), "{}", text(&added.stderr));
    let explained = served.mcr_as("view", &["explain", "far", "-o", "json"]);
    let report: Value = serde_json::from_slice(&explained.stdout).unwrap_or_else(|_| panic!("{explained:?}"));
    let steps = report["steps"].as_array().expect("steps");
    let wire = steps.iter().find(|step| step["step"] == "wire").expect("the wire");
    assert_eq!(wire["code"], "not_visible", "{report:#}");
    let wrong = served.mcr_as("view", &["explain", "lo:239.1.1.1:5002", "--join"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong.stderr));

    let looked = served.mcr_as("noc", &["discover", "lo", "--duration", "200ms", "-o", "json"]);
    let report: Value = serde_json::from_slice(&looked.stdout).unwrap_or_else(|_| panic!("{looked:?}"));
    assert_eq!(report["interfaces"], json!(["lo"]), "{report:#}");
    assert!(complaint(&served.mcr_as("view", &["discover", "lo", "--duration", "200ms"])).contains("operator"));

    let mut command = served.namespace.command(MCR);
    command.args(["top", "--server", URL, "--cacert"]).arg(served.path("ca.pem"));
    command.arg("--cert").arg(served.path("view.pem")).arg("--key").arg(served.path("view.key"));
    let mut top = Pty::start(&mut command, 80, 24);
    top.wait_for("1 relay  1 ", SOON);
    assert!(top.screen().contains(URL), "{}", top.screen());
    top.press("q");
    assert!(top.wait(SOON).success());
}

#[test]
fn certificates_decide_who_gets_in() {
    let served = Served::start("remote-certs");
    let added = served.mcr_as("noc", &ADD);
    assert!(added.status.success(), "{}", text(&added.stderr));
    assert!(text(&served.mcr_as("view", &["list"]).stdout).contains("far"));
    let refused = complaint(&served.mcr_as("view", &["rm", "far"]));
    assert!(refused.contains("takes the role operator, and this access has viewer"), "{refused}");
    let refused = complaint(&served.mcr_as("stranger", &["list"]));
    assert!(refused.contains("no name of the client certificate (stranger, 127.0.0.1) is allowed here"), "{refused}");
    let refused = complaint(&served.mcr(&[], &["list"]));
    assert!(refused.contains("this needs a token or a client certificate"), "{refused}");
    assert!(served.mcr_as("noc", &["rm", "far"]).status.success());

    Authority::new("mcr test authority").sign("noc", Lasts::Long).write_to(served.folder.path(), "foreign");
    served.authority.sign("noc", Lasts::AlreadyOver).write_to(served.folder.path(), "expired");
    for name in ["foreign", "expired"] {
        let refused = complaint(&served.mcr_as(name, &["list"]));
        assert!(refused.contains("refuses the client certificate"), "{name}: {refused}");
    }
    let log = served.service.stop();
    let changes: Vec<_> = log.lines().filter(|line| line.contains("audit")).collect();
    for expected in [
        "who=\"certificate:noc\" from=\"127.0.0.1:",
        "method=POST path=\"/api/v1/relays\" status=201 made=\"/api/v1/relays/far\"",
        "method=DELETE path=\"/api/v1/relays/far\" status=403 problem=\"forbidden\"",
        "method=DELETE path=\"/api/v1/relays/far\" status=204",
    ] {
        assert!(changes.iter().any(|line| line.contains(expected)), "no {expected} in {changes:#?}");
    }
}

#[test]
fn tokens_are_made_used_and_revoked() {
    let served = Served::start("remote-tokens");
    let limits = ["--interfaces", "lo", "--groups", "239.1.0.0/16,239.2.0.0/16"];
    let mut create = vec!["token", "create", "--role", "operator", "--expires", "12h", "--note", "rack 7"];
    create.extend(limits);
    let token = served.service.ok(&create).trim().to_owned();
    assert!(served.mcr(&["--token", &token], &ADD).status.success());
    let elsewhere = ["add", "x", "--from", "lo:239.3.1.1:5001", "--to", "lo:239.2.2.2:6001"];
    let refused = complaint(&served.mcr(&["--token", &token], &elsewhere));
    assert!(refused.contains("input.group: 239.3.1.1 is not one of those that this access is limited to"), "{refused}");

    let list: Value = serde_json::from_str(&served.service.ok(&["token", "list", "-o", "json"])).unwrap();
    let listed = &list["tokens"][0];
    assert_eq!(
        (&listed["role"], &listed["note"], &listed["created_by"]),
        (&json!("operator"), &json!("rack 7"), &json!("uid:0"))
    );
    let secret = token.rsplit_once('_').unwrap().1;
    assert!(!list.to_string().contains(secret));

    // A context keeps it in a file that nobody else reads.
    let in_context = |arguments: &[&str]| {
        let mut command = served.namespace.command(MCR);
        command.env_clear().env("HOME", served.folder.path()).args(arguments).output().unwrap()
    };
    let ca = served.path("ca.pem");
    let set =
        in_context(&["context", "set", "lab", "--server", URL, "--cacert", ca.to_str().unwrap(), "--token", &token]);
    assert!(set.status.success(), "{}", text(&set.stderr));
    assert!(text(&in_context(&["list"]).stdout).contains("far"));
    assert!(text(&in_context(&["context", "list"]).stdout).contains("*  lab   https://127.0.0.1:7443"));
    let kept = served.path(".config/mcr/lab.token");
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&kept).unwrap()) & 0o777, 0o600);

    served.service.ok(&["token", "revoke", listed["id"].as_str().unwrap()]);
    let refused = complaint(&in_context(&["list"]));
    assert!(refused.contains("was revoked, or has expired"), "{refused}");
    let log = served.service.stop();
    assert!(!log.contains(secret), "the secret is in the log:\n{log}");
}

#[test]
fn forged_names_and_origins_are_refused() {
    let served = Served::start("remote-names");
    let page = format!("{URL}/api/v1/relays");
    let ask = |header: &str| served.curl_as("noc", &["-H", header, &page]);
    for (header, expected) in [
        ("Host: 127.0.0.1:7443", 200),
        ("Host: relay-1", 200),
        ("Host: relay-alias:7443", 200),
        ("Host: evil.example.com", 421),
        ("Host: localhost", 421),
        ("Host: 10.0.0.1", 421),
        ("Origin: https://127.0.0.1:7443", 200),
        ("Origin: https://noc.example.net", 200),
        ("Origin: https://evil.example.com", 403),
        ("Origin: null", 403),
        ("Authorization: Bearer mcr_00000000_00", 401),
        ("Authorization: Basic bm9jOm5vYw==", 401),
    ] {
        assert_eq!(ask(header), expected, "{header}");
    }
    let plain = served.curl(&[&format!("http://{ADDRESS}/api/v1/relays")]);
    assert_eq!(plain, 0, "it speaks without TLS");
    for page in ["/healthz", "/api/v1/openapi.json"] {
        assert_eq!(served.curl(&[&format!("{URL}{page}")]), 200, "{page}");
    }
}

#[test]
fn local_users_are_asked_who_they_are() {
    let served = Served::start("remote-local");
    let socket = served.service.socket();
    // The folder of the test is its owner's alone.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(socket.parent().unwrap(), open).unwrap();
    let ask = |user: &str, method: &str, path: &str| {
        let mut curl = Command::new("setpriv");
        // A group that nobody allowed.
        curl.args([
            "--reuid",
            user,
            "--regid",
            "65534",
            "--clear-groups",
            "curl",
            "-s",
            "-o",
            "/dev/null",
            "-X",
            method,
        ]);
        curl.args(["-w", "%{http_code}", "--unix-socket"]).arg(&socket).arg(format!("http://mcr{path}"));
        text(&curl.output().unwrap().stdout).parse::<u16>().unwrap()
    };
    assert_eq!(ask("daemon", "GET", "/api/v1/relays"), 200);
    assert_eq!(ask("daemon", "DELETE", "/api/v1/relays/far"), 403);
    assert_eq!(ask("nobody", "GET", "/api/v1/relays"), 403);
    assert_eq!(ask("nobody", "GET", "/healthz"), 200);
    assert_eq!(ask("root", "DELETE", "/api/v1/relays/far"), 404);
}

#[test]
fn certificates_and_rules_are_read_again_without_a_restart() {
    let served = Served::start("remote-reload");
    let second = Authority::new("a second authority");
    second.write_to(&served.path("second-ca.pem"));
    let trusts = |ca: &str| {
        let page = format!("{URL}/healthz");
        let mut curl = served.namespace.command("curl");
        curl.args(["-s", "-f", "-o", "/dev/null", "--max-time", "5", "--cacert"]).arg(served.path(ca)).arg(page);
        curl.status().unwrap().success()
    };
    assert!(trusts("ca.pem") && !trusts("second-ca.pem"));
    // Nobody has to tell the daemon.
    second.sign("relay-1", Lasts::Long).write_to(served.folder.path(), "server");
    wait_until(SOON, "the new certificate is served", || trusts("second-ca.pem"));
    // What can't be used changes nothing.
    std::fs::write(served.path("server.pem"), "no certificate").unwrap();
    wait_until(SOON, "the mistake is told", || served.service.log().contains("changed certificates are not used"));
    assert!(trusts("second-ca.pem"));

    let file = served.path("access.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, before.replace("certificate = \"noc\"", "certificate = \"noc-2\"")).unwrap();
    served.service.signal(libc::SIGHUP);
    wait_until(SOON, "the mistake is told", || served.service.log().contains("the access file is not used"));
    second.sign("relay-1", Lasts::Long).write_to(served.folder.path(), "server");
    served.service.signal(libc::SIGHUP);
    wait_until(SOON, "the rules are read again", || served.service.log().contains("the access file is read again"));
    let page = format!("{URL}/api/v1/relays");
    let cacert = served.path("second-ca.pem");
    assert_eq!(served.curl_as("noc", &["--cacert", cacert.to_str().unwrap(), &page]), 403);
    assert_eq!(served.curl_as("view", &["--cacert", cacert.to_str().unwrap(), &page]), 200);
    // To listen somewhere else takes a restart: a daemon that runs can't bind a socket any more.
    let elsewhere = before.replace(ADDRESS, "127.0.0.1:7555");
    assert_ne!(elsewhere, before);
    std::fs::write(&file, elsewhere).unwrap();
    served.service.signal(libc::SIGHUP);
    let told = "a daemon that runs has given that up: restart it (systemctl restart mcr)";
    wait_until(SOON, "that a restart is needed is told", || served.service.log().contains(told));
    assert_eq!(served.curl_as("view", &["--cacert", cacert.to_str().unwrap(), &page]), 200);
    // Without [remote] nobody listens any more.
    std::fs::write(&file, "").unwrap();
    served.service.signal(libc::SIGHUP);
    wait_until(SOON, "the network is closed", || served.namespace.run(|| TcpStream::connect(ADDRESS)).is_err());
}

/// Whatever lasts ends with the right to it: a stream and a wait with their token, a connection with the authority of
/// its certificate.
#[test]
fn what_lasts_ends_with_the_right_to_it() {
    let served = Served::start("remote-lasting");
    let token = served.service.ok(&["token", "create", "--role", "viewer"]).trim().to_owned();
    assert!(served.mcr_as("noc", &ADD).status.success());
    let lasting = |options: &[&str], page: &str| {
        let mut curl = served.namespace.command("curl");
        curl.args(["-s", "-N", "--max-time", "60", "--cacert"]).arg(served.path("ca.pem")).args(options);
        curl.arg(format!("{URL}/api/v1/{page}")).stdout(Stdio::piped()).spawn().expect("run curl")
    };
    let (bearer, wait) = (format!("Authorization: Bearer {token}"), "relays/far/wait?for=first-packet&timeout=50s");
    let mut of_token = [lasting(&["-H", &bearer], "events"), lasting(&["-H", &bearer], wait)];
    let (cert, key) = (served.path("noc.pem"), served.path("noc.key"));
    let mut of_certificate = lasting(&["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()], "events");
    let begun = |stream: &mut Child| {
        let mut first = [0; 16];
        stream.stdout.as_mut().unwrap().read_exact(&mut first).expect("the stream begins");
    };
    begun(&mut of_token[0]);
    begun(&mut of_certificate);
    // The wait says nothing before its end; it is there when its connection is.
    wait_until(SOON, "all three are connected", || connections(&served.namespace) == 3);

    served.service.ok(&["token", "revoke", token.split('_').nth(1).unwrap()]);
    for lasting in &mut of_token {
        wait_until(SOON, "the token's answers end", || lasting.try_wait().unwrap().is_some());
    }
    let mut said = String::new();
    of_token[1].stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("/problems/not-admitted"), "{said}");
    assert!(of_certificate.try_wait().unwrap().is_none(), "the certificate still counts");

    Authority::new("another authority").write_to(&served.path("ca.pem"));
    wait_until(SOON, "the certificate's connection ends", || of_certificate.try_wait().unwrap().is_some());
    assert!(served.service.log().contains("its certificate does not count any more"), "{}", served.service.log());
}

/// How many connections there are to the daemon over the network.
fn connections(namespace: &Namespace) -> usize {
    let (_, port) = ADDRESS.rsplit_once(':').unwrap();
    let local = format!("0100007F:{:04X}", port.parse::<u16>().unwrap());
    let table = namespace.run(|| std::fs::read_to_string("/proc/thread-self/net/tcp")).expect("the connections");
    let established = |line: &&str| {
        let mut columns = line.split_whitespace().skip(1);
        columns.next() == Some(&local) && columns.nth(1) == Some("01")
    };
    table.lines().filter(established).count()
}

/// A thousand connections that never finish what they began and a body of a gigabyte, on both doors, against one who
/// has something to ask.
#[test]
fn slow_and_greedy_clients_hold_nobody_up() {
    let served = Served::start("remote-slow");
    let resident = || memory_of(served.service.pid());
    let before = resident();
    let slow_network = served.namespace.run(|| slow_connections(|| TcpStream::connect(ADDRESS)));
    let socket = served.service.socket();
    let slow_local = slow_connections(|| std::os::unix::net::UnixStream::connect(&socket));
    let greedy = std::thread::spawn({
        let socket = socket.clone();
        move || send_gigabyte(&socket)
    });
    let mut took: Vec<Duration> = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    while took.len() < 100 && Instant::now() < deadline {
        let start = Instant::now();
        let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(b"GET /api/v1/relays HTTP/1.1\r\nHost: mcr\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        took.push(start.elapsed());
    }
    assert_eq!(served.curl_as("noc", &[&format!("{URL}/api/v1/relays")]), 200);
    assert_eq!(greedy.join().unwrap(), 413);
    took.sort();
    let (p99, grown) = (took[took.len() * 99 / 100 - 1], resident().saturating_sub(before));
    println!("p99 {p99:?} of {} requests; {} KiB more in RAM", took.len(), grown >> 10);
    assert!(p99 < Duration::from_millis(pick(1_000, 200)), "p99 {p99:?}");
    assert!(grown < 64 << 20, "{} MiB more in RAM", grown >> 20);
    drop((slow_network, slow_local));
}

/// A thousand connections; each sends a byte or the beginning of a request, and then nothing.
fn slow_connections<S: Write>(connect: impl Fn() -> std::io::Result<S>) -> Vec<S> {
    let beginnings: [&[u8]; 4] = [
        b"",
        b"\x16",
        b"GET /api/v1/relays HTTP/1.1\r\nHost: mcr\r\n",
        b"POST /api/v1/relays HTTP/1.1\r\nHost: mcr\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
    ];
    let open = |i: usize| {
        let mut stream = connect().ok()?;
        // One that was sent away meanwhile has had its effect.
        let _ = stream.write_all(beginnings[i % beginnings.len()]);
        Some(stream)
    };
    (0..1000).filter_map(open).collect()
}

/// Sends a body of a gigabyte as far as it is taken; the status of the answer.
fn send_gigabyte(socket: &Path) -> u16 {
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let head = "POST /api/v1/relays HTTP/1.1\r\nHost: mcr\r\nContent-Type: application/json\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut chunk = b"100000\r\n".to_vec();
    chunk.resize(chunk.len() + (1 << 20), b'x');
    chunk.extend(b"\r\n");
    for _ in 0..1024 {
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    std::str::from_utf8(&answer[9..]).unwrap().parse().unwrap()
}

fn memory_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
}
