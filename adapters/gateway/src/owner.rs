//! Nobody but the owner spends: who may ask, and from where.

use std::net::{IpAddr, Ipv6Addr};

use hyper::{
    HeaderMap, Method, Response, StatusCode, Uri,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
        ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, HOST, HeaderValue, ORIGIN, VARY,
    },
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{body::Body, config::Config, errors::Refused, rights::Rights};

/// Who may spend.
pub(crate) struct Owner {
    /// Digests: comparing them tells nothing of a secret's length either.
    keys: Vec<[u8; 32]>,
    /// Of each key.
    rights: Vec<Rights>,
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Owner {
    pub(crate) fn new(config: &Config) -> Self {
        let lower =
            |texts: &[String]| texts.iter().map(|text| text.trim_end_matches('/').to_ascii_lowercase()).collect();
        Owner {
            keys: config.keys.iter().map(|key| digest(&key.secret)).collect(),
            rights: config.keys.iter().map(Rights::of).collect(),
            hosts: lower(&config.allow_hosts),
            origins: lower(&config.allow_origins),
        }
    }

    /// Whether the request comes from where it may come. Its page, if it is one's.
    pub(crate) fn whence(&self, headers: &HeaderMap, uri: &Uri) -> Result<Option<HeaderValue>, Refused> {
        // A page elsewhere can have its name lead here. With a key, it does not know that.
        if self.keys.is_empty() && !self.is_own_host(headers, uri) {
            return Err(forbidden(
                "foreign_host",
                "the Host header names another machine: call this one 127.0.0.1 or localhost, or start it with --allow-host NAME",
            ));
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        let Some(origin) = origins.next() else { return Ok(None) };
        let text = origin.to_str().unwrap_or_default().to_ascii_lowercase();
        if origins.next().is_none() && (self.origins.contains(&text) || is_loopback_origin(&text)) {
            return Ok(Some(origin.clone()));
        }
        Err(forbidden("foreign_origin", "pages of this origin may not spend here: start it with --allow-origin ORIGIN"))
    }

    /// Whose key it is; `None` where nobody needs one.
    pub(crate) fn who(&self, headers: &HeaderMap) -> Result<Option<usize>, Refused> {
        if self.keys.is_empty() {
            return Ok(None);
        }
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given =
            given.and_then(|text| text.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, secret)) = given else { return Err(unknown("a key is needed: Authorization: Bearer KEY")) };
        let given = digest(secret.trim());
        // All of them are compared, whichever it is.
        let found = self
            .keys
            .iter()
            .enumerate()
            .fold(None, |found, (at, key)| if bool::from(key.ct_eq(&given)) { Some(at) } else { found });
        found.map(Some).ok_or_else(|| unknown("this key is not known here"))
    }

    /// What an owner may do; `None` where nobody needs a key, and everything may be done.
    pub(crate) fn rights(&self, owner: Option<usize>) -> Option<&Rights> {
        self.rights.get(owner?)
    }

    fn is_own_host(&self, headers: &HeaderMap, uri: &Uri) -> bool {
        let mut named = headers.get_all(HOST).iter();
        let first = named.next().and_then(|host| host.to_str().ok());
        let is_own = |host: &str| {
            let name = without_port(host).to_ascii_lowercase();
            is_loopback(&name) || self.hosts.contains(&name)
        };
        // A target with a name of its own stands above the header.
        named.next().is_none()
            && first.is_none_or(is_own)
            && uri.host().is_none_or(is_own)
            && (first.is_some() || uri.host().is_some())
    }
}

/// What a page is told before it may ask.
pub(crate) fn preflight(method: &Method, headers: &HeaderMap) -> Option<Response<Body>> {
    if *method != Method::OPTIONS || !headers.contains_key(ORIGIN) {
        return None;
    }
    headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    let mut response = Response::new(Body::Whole(None));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let to = response.headers_mut();
    to.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
    to.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    // By name: a star does not cover `authorization`.
    if let Some(asked) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        to.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    Some(response)
}

/// Lets a page that may ask read the answer.
pub(crate) fn let_read(headers: &mut HeaderMap, origin: HeaderValue) {
    const TOLD: &str = "x-request-id, x-haggle-job, x-haggle-provider, x-haggle-price-in, x-haggle-price-out, \
                        x-haggle-fee-in, x-haggle-ignored, retry-after";
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(TOLD));
    headers.insert(VARY, HeaderValue::from_static("Origin"));
}

fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

fn forbidden(code: &'static str, text: &str) -> Refused {
    Refused::new(StatusCode::FORBIDDEN, code, text)
}

fn unknown(text: &str) -> Refused {
    Refused::new(StatusCode::UNAUTHORIZED, "invalid_api_key", text)
}

fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

fn is_loopback(name: &str) -> bool {
    let is_local = name == "localhost" || name.ends_with(".localhost");
    let is_mapped = |ip: Ipv6Addr| ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback());
    is_local
        || match name.parse() {
            Ok(IpAddr::V4(ip)) => ip.is_loopback(),
            Ok(IpAddr::V6(ip)) => ip.is_loopback() || is_mapped(ip),
            Err(_) => false,
        }
}

fn is_loopback_origin(origin: &str) -> bool {
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    host.is_some_and(|host| is_loopback(without_port(host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (hyper::header::HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))
            })
            .collect()
    }

    fn comes(owner: &Owner, pairs: &[(&'static str, &str)]) -> bool {
        owner.whence(&headers(pairs), &Uri::from_static("/v1/models")).is_ok()
    }

    #[test]
    fn only_this_machine_and_who_is_named_may_ask() {
        let config = Config {
            allow_hosts: vec!["Gate.example".into()],
            allow_origins: vec!["https://chat.example".into()],
            ..Config::default()
        };
        let owner = Owner::new(&config);
        for host in ["127.0.0.1", "127.0.0.1:8484", "localhost:1", "[::1]:8484", "LOCALHOST", "gate.example:80"] {
            assert!(comes(&owner, &[("host", host)]), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "192.0.2.1", "", "[::2]"] {
            assert!(!comes(&owner, &[("host", host)]), "{host}");
        }
        assert!(!comes(&owner, &[]), "a host is named");
        for origin in ["http://localhost:3000", "https://127.0.0.1", "https://chat.example"] {
            assert!(comes(&owner, &[("host", "localhost"), ("origin", origin)]), "{origin}");
        }
        for origin in
            ["null", "https://evil.example", "https://localhost.evil.example", "https://chat.example.evil", ""]
        {
            assert!(!comes(&owner, &[("host", "localhost"), ("origin", origin)]), "{origin}");
        }
    }

    #[test]
    fn a_key_is_known_or_not() {
        let key = |name: &str, secret: &str| crate::Key::new(name, secret).expect("a key");
        let owner = Owner::new(&Config { keys: vec![key("a", "secret-a"), key("b", "secret-b")], ..Config::default() });
        let who =
            |text: &str| owner.who(&headers(&[("authorization", text)])).map_err(|refused| refused.status.as_u16());
        assert_eq!((who("Bearer secret-a"), who("bearer secret-b")), (Ok(Some(0)), Ok(Some(1))));
        for wrong in ["Bearer secret-c", "Bearer ", "secret-a", "Basic secret-a", "Bearer secret-a secret-b"] {
            assert_eq!(who(wrong), Err(401), "{wrong}");
        }
        assert!(comes(&owner, &[("host", "evil.example")]), "who knows the key may call it as they like");
        assert!(!comes(&owner, &[("host", "evil.example"), ("origin", "https://evil.example")]));
    }
}
