//! The table: each transport with each way to configure how a remote is reached.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub const PASSWORD: &str = "r1ght-p4ss";

/// How a host is written in a URL. The second host of each kind is the one that `~/.netrc` and the proxies know.
const HOSTS: [(&str, &str, &str); 3] =
    [("name", "git.corp.test", "other.corp.test"), ("v4", "127.0.0.1", "127.0.0.2"), ("v6", "[::1]", "[fd00::2]")];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Path,
    File,
    Git,
    Http,
    Https,
    Ssh,
    /// `user@host:path`
    Scp,
}

const TRANSPORTS: [(&str, Transport); 7] = [
    ("path", Transport::Path),
    ("file", Transport::File),
    ("git", Transport::Git),
    ("http", Transport::Http),
    ("https", Transport::Https),
    ("ssh", Transport::Ssh),
    ("scp", Transport::Scp),
];

/// What `git ls-remote` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The commit that the checkout is at.
    Current,
    /// The newer commit of the other repository.
    Newer,
    Nothing,
}

/// The environments of the runs, by number.
pub const ENVIRONMENTS: [&[(&str, &str)]; 5] = [
    &[],
    &[
        ("http_proxy", "http://127.0.0.1:8080"),
        ("https_proxy", "http://[::1]:8080"),
        ("no_proxy", "git.corp.test,127.0.0.1,::1"),
    ],
    &[("ALL_PROXY", "http://git.corp.test:8080")],
    &[("GIT_SSL_CAINFO", "/srv/tls/certificate")],
    &[("GIT_SSH_COMMAND", "ssh -F /home/ubuntu/ssh_config")],
];

/// A checkout with one remote, and what git is configured to do with it.
pub struct Cell {
    pub id: String,
    /// Lines of `[remote "origin"]`.
    pub remote: String,
    /// More of the checkout's configuration.
    pub config: String,
    /// A part of `~/.gitconfig`.
    pub global: String,
    /// Files beside the checkout's configuration.
    pub files: Vec<(&'static str, String)>,
    /// A number in [`ENVIRONMENTS`].
    pub environment: usize,
    pub reach: Answer,
}

/// One place of the table to be filled.
struct Place {
    id: String,
    transport: Transport,
    host: &'static str,
    other_host: &'static str,
}

impl Place {
    fn new(transport: (&str, Transport), host: (&str, &'static str, &'static str), way: &str) -> Self {
        let id = match transport.1 {
            Transport::Path | Transport::File => format!("{}-{way}", transport.0),
            _ => format!("{}-{}-{way}", transport.0, host.0),
        };
        Self { id, transport: transport.1, host: host.1, other_host: host.2 }
    }

    /// Returns the part of the URL before the repository's name.
    fn folder_at(&self, host: &str, section: &str) -> String {
        let path = format!("/{section}/{}/", self.id);
        match self.transport {
            Transport::Path => "/srv/git/".into(),
            Transport::File => "file:///srv/git/".into(),
            Transport::Git => format!("git://{host}{path}"),
            Transport::Http | Transport::Https => format!("{}{path}", self.server(host)),
            Transport::Ssh => format!("ssh://ubuntu@{host}{path}"),
            Transport::Scp => format!("ubuntu@{host}:{path}"),
        }
    }

    fn folder(&self) -> String {
        self.folder_at(self.host, "open")
    }

    fn url(&self) -> String {
        self.folder() + "app.git"
    }

    fn private(&self) -> String {
        self.folder_at(self.host, "private") + "app.git"
    }

    fn server(&self, host: &str) -> String {
        if self.transport == Transport::Https { format!("https://{host}:8443") } else { format!("http://{host}:8080") }
    }

    fn is_web(&self) -> bool {
        matches!(self.transport, Transport::Http | Transport::Https)
    }

    fn is_ssh(&self) -> bool {
        matches!(self.transport, Transport::Ssh | Transport::Scp)
    }

    fn cell(&self, urls: &[&str], config: impl Into<String>, reach: Answer) -> Cell {
        let mut config = config.into();
        if self.transport == Transport::Https && !config.contains("ssl") {
            config.push_str("[http]\n\tsslCAInfo = /srv/tls/certificate\n");
        }
        Cell {
            id: self.id.clone(),
            remote: urls.iter().map(|url| format!("\turl = \"{url}\"\n")).collect(),
            config,
            global: String::new(),
            files: Vec::new(),
            environment: 0,
            reach,
        }
    }
}

impl Cell {
    fn global(mut self, text: impl Into<String>) -> Self {
        self.global = text.into();
        self
    }

    fn remote(mut self, line: &str) -> Self {
        self.remote.push_str(&format!("\t{line}\n"));
        self
    }

    fn file(mut self, name: &'static str, content: impl Into<String>) -> Self {
        self.files.push((name, content.into()));
        self
    }

    fn environment(mut self, number: usize) -> Self {
        self.environment = number;
        self
    }
}

pub fn authorization() -> String {
    format!("Basic {}", STANDARD.encode(format!("deploy:{PASSWORD}")))
}

/// Returns the whole table. How a host is written matters to whatever selects by host, so those ways meet each host; the others
/// meet the hosts in turn.
pub fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (number, transport) in TRANSPORTS.into_iter().enumerate() {
        // The short form of ssh is only another spelling: it meets the ways that choose or replace a URL.
        let locations = if transport.1 == Transport::Scp { &LOCATIONS[..6] } else { &LOCATIONS[..] };
        for (turn, way) in locations.iter().enumerate() {
            let place = Place::new(transport, HOSTS[(number + turn) % HOSTS.len()], way);
            cells.push(located(&place, way));
        }
        for host in HOSTS {
            let ways: &[&str] = match transport.1 {
                Transport::Path | Transport::File => &[],
                Transport::Git => &["plain"],
                Transport::Http => WEB,
                Transport::Https => &[WEB, CERTIFICATES].concat(),
                Transport::Ssh => SSH,
                Transport::Scp => &["plain", "jump"],
            };
            for way in ways {
                let place = Place::new(transport, host, way);
                let cell = match () {
                    () if place.is_web() => web(&place, way),
                    () if place.is_ssh() => ssh(&place, way),
                    () => place.cell(&[&place.url()], "", Answer::Current),
                };
                cells.push(cell);
            }
        }
    }
    cells
}

/// Ways that decide which place is meant. They fit every transport.
const LOCATIONS: [&str; 13] = [
    "insteadof",
    "longer-insteadof",
    "pushinsteadof",
    "two-urls",
    "two-urls-reversed",
    "url-reset",
    "pushurl",
    "gitdir",
    "gitdir-icase",
    "other-gitdir",
    "hasconfig",
    "other-hasconfig",
    "onbranch",
];

fn located(place: &Place, way: &str) -> Cell {
    let (url, folder) = (place.url(), place.folder());
    let other = folder.clone() + "other.git";
    // A short form that no rule replaces is a path that does not exist.
    let short = format!("/short/{}/app.git", place.id);
    let instead = |from: &str| format!("[url \"{folder}\"]\n\tinsteadOf = \"{from}\"\n");
    let prefix = format!("/short/{}/", place.id);
    let top = format!("/home/ubuntu/cells/{}", place.id);
    let included = |condition: String| {
        let cell = place.cell(&[&short], "", Answer::Current).file("included", instead(&prefix));
        cell.global(format!("[includeIf \"{condition}\"]\n\tpath = {top}/.git/included\n"))
    };
    let missed = |condition: String| Cell { reach: Answer::Nothing, ..included(condition) };
    match way {
        "insteadof" => place.cell(&[&short], instead(&prefix), Answer::Current),
        "longer-insteadof" => place.cell(
            &[&short],
            format!("{}[url \"/nowhere/\"]\n\tinsteadOf = /short/\n", instead(&prefix)),
            Answer::Current,
        ),
        "pushinsteadof" => {
            place.cell(&[&url], format!("[url \"/nowhere/\"]\n\tpushInsteadOf = \"{folder}\"\n"), Answer::Current)
        }
        "two-urls" => place.cell(&[&url, &other], "", Answer::Current),
        "two-urls-reversed" => place.cell(&[&other, &url], "", Answer::Newer),
        "url-reset" => place.cell(&["/nowhere", "", &url], "", Answer::Current),
        "pushurl" => place.cell(&[&url], "", Answer::Current).remote(&format!("pushurl = \"{other}\"")),
        "gitdir" => included(format!("gitdir:{top}/")),
        "gitdir-icase" => included(format!("gitdir/i:{}/", top.to_uppercase())),
        "other-gitdir" => missed(format!("gitdir:{top}/elsewhere/")),
        "hasconfig" => included(format!("hasconfig:remote.*.url:/short/{}/**", place.id)),
        "other-hasconfig" => missed(format!("hasconfig:remote.*.url:/other/{}/**", place.id)),
        _ => included("onbranch:main".into()),
    }
}

/// Ways that decide how a web server is reached, and what it is sent.
const WEB: &[&str] = &[
    "plain",
    "no-login",
    "store",
    "store-of-another-host",
    "store-of-another-port",
    "helper-for-the-server",
    "helper-for-another-port",
    "helper-without-the-port",
    "helper-for-the-path",
    "helper-for-another-path",
    "netrc",
    "netrc-of-another-host",
    "header",
    "header-for-the-server",
    "header-for-another-server",
    "login-in-the-url",
    "login-in-insteadof",
    "proxy",
    "proxy-for-the-server",
    "proxy-for-another-server",
    "proxy-of-the-remote",
    "proxy-with-a-login",
    "no-proxy-answers",
    "proxy-of-the-environment",
    "no-proxy-of-the-environment",
    "proxy-of-the-environment-for-all",
];

fn web(place: &Place, way: &str) -> Cell {
    use Answer::{Current, Nothing};
    if let Some(cell) = certificate(place, way) {
        return cell;
    }
    let (url, private, server) = (place.url(), place.private(), place.server(place.host));
    let (scheme, authority) = server.split_once("://").unwrap_or_default();
    let path = format!("/private/{}/app.git", place.id);
    let far_server = place.server(&format!("{}.far.invalid", place.id));
    let far = format!("{far_server}/open/{}/app.git", place.id);
    let proxy = format!("http://{}:8080", place.host);
    let store = format!("[credential]\n\thelper = store --file=/home/ubuntu/cells/{}/.git/store\n", place.id);
    let helper = format!(
        "helper = \"!f() {{ test $1 != get || echo username=deploy password={PASSWORD} | tr ' ' '\\\\n'; }}; f\""
    );
    let helper_for =
        |context: &str, reach| place.cell(&[&private], format!("[credential \"{context}\"]\n\t{helper}\n"), reach);
    let header = format!("extraHeader = \"Authorization: {}\"", authorization());
    let other = "http://svc:0ther@git.example\n";
    match way {
        "plain" => place.cell(&[&url], "", Current),
        "no-login" => place.cell(&[&private], "", Nothing),
        "store" => {
            let stored = format!("{other}{scheme}://deploy:{PASSWORD}@{authority}\n");
            place.cell(&[&private], store, Current).file("store", stored)
        }
        "store-of-another-host" => place.cell(&[&private], store, Nothing).file("store", other),
        "store-of-another-port" => {
            let stored = format!("{scheme}://deploy:{PASSWORD}@{}:1\n", place.host);
            place.cell(&[&private], store, Nothing).file("store", stored)
        }
        "helper-for-the-server" => helper_for(&server, Current),
        "helper-for-another-port" => helper_for(&format!("{scheme}://{}:1", place.host), Nothing),
        "helper-without-the-port" => helper_for(&format!("{scheme}://{}", place.host), Nothing),
        "helper-for-the-path" => helper_for(&format!("{server}{path}"), Current),
        "helper-for-another-path" => helper_for(&format!("{server}/private/another.git"), Nothing),
        // What the library makes of an IPv6 address in ~/.netrc is its own affair.
        "netrc" => {
            let at = place.folder_at(place.other_host, "private") + "app.git";
            let reach = if place.host.starts_with('[') { Answer::Nothing } else { Current };
            place.cell(&[&at], "", reach)
        }
        "netrc-of-another-host" => place.cell(&[&private], "", Nothing),
        "header" => place.cell(&[&private], format!("[http]\n\t{header}\n"), Current),
        "header-for-the-server" => place.cell(&[&private], format!("[http \"{server}\"]\n\t{header}\n"), Current),
        "header-for-another-server" => {
            place.cell(&[&private], format!("[http \"{scheme}://{}:1\"]\n\t{header}\n", place.host), Nothing)
        }
        "login-in-the-url" => place.cell(&[&format!("{scheme}://deploy:{PASSWORD}@{authority}{path}")], "", Current),
        "login-in-insteadof" => place.cell(
            &["corp:app.git"],
            format!("[url \"{scheme}://deploy:{PASSWORD}@{authority}/private/{}/\"]\n\tinsteadOf = corp:\n", place.id),
            Current,
        ),
        "proxy" => place.cell(&[&far], format!("[http]\n\tproxy = {proxy}\n"), Current),
        "proxy-for-the-server" => place.cell(&[&far], format!("[http \"{far_server}\"]\n\tproxy = {proxy}\n"), Current),
        "proxy-for-another-server" => {
            place.cell(&[&far], format!("[http \"{scheme}://another.invalid\"]\n\tproxy = {proxy}\n"), Nothing)
        }
        "proxy-of-the-remote" => place.cell(&[&far], "", Current).remote(&format!("proxy = {proxy}")),
        "proxy-with-a-login" => {
            let proxy = proxy.replace("//", "//proxy-user:proxy-pass@");
            place.cell(&[&far], format!("[http]\n\tproxy = {proxy}\n"), Current)
        }
        "no-proxy-answers" => place.cell(&[&url], "[http]\n\tproxy = http://127.0.0.1:1\n", Nothing),
        "proxy-of-the-environment" => place.cell(&[&far], "", Current).environment(1),
        "no-proxy-of-the-environment" => place.cell(&[&url], "", Current).environment(1),
        _ => place.cell(&[&far], "", Current).environment(2),
    }
}

/// Ways that decide which certificates are trusted.
const CERTIFICATES: &[&str] = &[
    "unknown-certificate",
    "certificate-for-the-server",
    "certificate-for-another-server",
    "unverified",
    "unverified-server",
    "another-server-unverified",
    "certificate-of-the-environment",
];

fn certificate(place: &Place, way: &str) -> Option<Cell> {
    use Answer::{Current, Nothing};
    let (url, server) = (place.url(), place.server(place.host));
    let another = format!("https://{}:1", place.host);
    let with = |section: &str, line: &str, reach| place.cell(&[&url], format!("[{section}]\n\t{line}\n"), reach);
    let of = |server: &str| format!("http \"{server}\"");
    let trusted = "sslCAInfo = /srv/tls/certificate";
    Some(match way {
        "unknown-certificate" => with("http", "sslVerify = true", Nothing),
        "certificate-for-the-server" => with(&of(&server), trusted, Current),
        "certificate-for-another-server" => with(&of(&another), trusted, Nothing),
        "unverified" => with("http", "sslVerify = false", Current),
        "unverified-server" => with(&of(&server), "sslVerify = false", Current),
        "another-server-unverified" => with(&of(&another), "sslVerify = false", Nothing),
        "certificate-of-the-environment" => with("http", "sslVerify = true", Current).environment(3),
        _ => return None,
    })
}

/// Ways that decide how ssh reaches a host.
const SSH: &[&str] = &[
    "plain",
    "another-user",
    "unknown-host",
    "jump",
    "two-jumps",
    "proxy-command",
    "command-of-the-configuration",
    "command-of-the-environment",
];

/// The aliases that `~/.ssh/config` has for each host, and those of another file.
pub fn ssh_config() -> (String, String) {
    let (mut own, mut other) = (String::new(), String::new());
    for (name, host, _) in HOSTS {
        let bare = host.trim_matches(['[', ']']);
        own += &format!("Host jump-{name}\n  HostName {bare}\n  ProxyJump git@{host}\n");
        own += &format!("Host two-jumps-{name}\n  HostName {bare}\n  ProxyJump git@localhost,git@{host}\n");
        own += &format!("Host proxy-command-{name}\n  HostName {bare}\n  ProxyCommand ssh -W [%h]:%p git@{bare}\n");
        other += &format!("Host command-{name}\n  HostName {bare}\n  User ubuntu\n");
    }
    (own, other)
}

fn ssh(place: &Place, way: &str) -> Cell {
    use Answer::{Current, Nothing};
    let name = HOSTS.iter().find(|(_, host, _)| *host == place.host).map_or("", |(name, ..)| name);
    let at = |host: &str| place.folder_at(host, "open") + "app.git";
    match way {
        "plain" => place.cell(&[&place.url()], "", Current),
        "another-user" => place.cell(&[&place.url().replacen("ubuntu@", "mallory@", 1)], "", Nothing),
        "unknown-host" => place.cell(&[&at(place.other_host)], "", Nothing),
        "command-of-the-configuration" => {
            let config = "[core]\n\tsshCommand = ssh -F /home/ubuntu/ssh_config\n";
            place.cell(&[&at(&format!("command-{name}"))], config, Current)
        }
        "command-of-the-environment" => place.cell(&[&at(&format!("command-{name}"))], "", Current).environment(4),
        _ => place.cell(&[&at(&format!("{way}-{name}"))], "", Current),
    }
}
