//! The page at `/`. It is one file, asks nobody but the gateway, and runs nothing that is not in it.

use hyper::{
    Response, StatusCode,
    header::{CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
};

use crate::{
    body::{Body, text_response},
    fresh,
};

const PAGE: &str = include_str!("page.html");
/// Where the page has the word that only its own script and style know.
const WORD: &str = "{{nonce}}";

/// The page. Its script and its style name a word that is drawn anew each time, so that nothing else on it would ever be run.
pub(crate) fn page() -> Response<Body> {
    let word = format!("{:016x}{:016x}", fresh::number(), fresh::number());
    let mut response = text_response(StatusCode::OK, "text/html; charset=utf-8", PAGE.replace(WORD, &word));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{word}'; style-src 'nonce-{word}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let headers = response.headers_mut();
    // Hexadecimal digits are what any header can carry.
    headers.extend(HeaderValue::try_from(policy).map(|policy| (CONTENT_SECURITY_POLICY, policy)));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_nobody_else_and_writes_no_markup() {
        // One for the style, one for the script.
        assert_eq!(PAGE.matches(WORD).count(), 2);
        for never in ["://", "innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(", "Storage", "cookie"]
        {
            assert!(!PAGE.contains(never), "{never}");
        }
    }
}
