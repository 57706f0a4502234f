//! The page of the admin interface, in a browser: what it shows, what it lets clients do, and what names of
//! clients can't do.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use bson::doc;
use std::fs;
use support::{
    browser::Browser,
    client::RawClient,
    eventually,
    scripted::{Scripted, batch, reply_to},
    tollgate::{Tollgate, mongo_config},
    wire::op_msg,
};

const TOKEN: &str = "s3cret-0123456789abcdef";

/// A collection whose name would run a script, if the page took it for HTML.
const HOSTILE: &str = "<img src=x onerror=alert(document.domain)>";

/// A server that has documents in every collection, except that `broken` can't be read.
fn server() -> Scripted {
    Scripted::answering(|message| {
        let command = message.document();
        match command.get_str("find") {
            Ok("broken") => {
                let failed =
                    doc! { "ok": 0.0, "code": 1, "errmsg": "broken", "codeName": "InternalError" };
                reply_to(message, &failed)
            }
            Ok(_) => reply_to(message, &batch(true, 0, "shop.any", &[doc! { "x": 1 }])),
            Err(_) => reply_to(message, &doc! { "ok": 1.0 }),
        }
    })
}

fn find(tollgate: &Tollgate, collection: &str) {
    let command = doc! { "find": collection, "$db": "shop" };
    RawClient::connect(tollgate.listener("db")).round_trip(&op_msg(1, &command));
}

/// The text of the row of a table that has this text.
fn row(browser: &Browser, text: &str) -> String {
    let text = serde_json::json!(text);
    let find = format!(
        "[...document.querySelectorAll('tbody tr')].map(it => it.innerText)\
         .find(it => it.includes({text})) ?? ''"
    );
    browser.value(&find).as_str().unwrap().to_owned()
}

#[test]
fn the_page_shows_a_listener_an_endpoint_and_an_operation() {
    let Some(browser) = Browser::start() else { return };
    let server = server();
    let tollgate = Tollgate::mongo(server.address());
    find(&tollgate, "orders");
    browser.open(&format!("http://{}/", tollgate.admin()));
    browser.wait_for("Nothing: every endpoint is in use");
    let listener = row(&browser, &tollgate.listener("db").to_string());
    assert!(listener.contains("db") && listener.contains("mongo"), "{listener}");
    let endpoint = row(&browser, &server.address().to_string());
    assert!(endpoint.contains("in use"), "{endpoint}");
    assert!(browser.text().contains("none since the start"));
    browser.click("nav a", "Operations");
    browser.wait_for("shop.orders");
    find(&tollgate, "orders");
    browser.click("td a", "find");
    browser.wait_for("2 ok");
    browser.wait_for("Query shapes");
    for path in ["sessions", "pools", "tls", "shapes", "callsites"] {
        browser.open(&format!("http://{}/#{path}", tollgate.admin()));
        eventually(path, || (!browser.text().contains("Asking the proxy")).then_some(()));
    }
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn a_name_of_a_client_injects_nothing() {
    let Some(browser) = Browser::start() else { return };
    let server = server();
    let tollgate = Tollgate::mongo(server.address());
    find(&tollgate, HOSTILE);
    for view in ["operations", "live", "now", "shapes"] {
        browser.open(&format!("http://{}/#{view}", tollgate.admin()));
        if view == "live" {
            browser.wait_for("Waiting for the next operation");
            find(&tollgate, HOSTILE);
        }
        if view != "now" {
            browser.wait_for(HOSTILE);
        }
    }
    browser.click("nav a", "Operations");
    browser.click("td a", "find");
    browser.wait_for(&format!("find shop.{HOSTILE}"));
    assert_eq!(browser.value("document.querySelectorAll('img, iframe').length"), 0);
    assert!(!browser.has_dialog());
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn the_live_view_shows_what_comes_and_filters_by_outcome() {
    let Some(browser) = Browser::start() else { return };
    let server = server();
    let tollgate = Tollgate::mongo(server.address());
    find(&tollgate, "before");
    browser.open(&format!("http://{}/#live", tollgate.admin()));
    browser.wait_for("Waiting for the next operation");
    find(&tollgate, "orders");
    find(&tollgate, "broken");
    browser.wait_for("shop.orders");
    browser.wait_for("shop.broken");
    let broken = row(&browser, "shop.broken");
    assert!(broken.contains("failed") && broken.contains("127.0.0.1"), "{broken}");
    assert!(!browser.text().contains("shop.before"));
    let choose = "(() => { const it = document.querySelector('select[name=outcome]'); it.value = \
                  'not_ok'; it.dispatchEvent(new Event('input', { bubbles: true })); return true })()";
    browser.value(choose);
    eventually("the filter", || (!browser.text().contains("shop.orders")).then_some(()));
    find(&tollgate, "broken");
    find(&tollgate, "orders");
    browser.wait_for("shop.broken");
    assert!(!browser.text().contains("shop.orders"), "{}", browser.text());
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn a_button_drains_an_endpoint_only_with_the_token() {
    let Some(browser) = Browser::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    fs::write(&file, TOKEN).unwrap();
    let server = server();
    let admin =
        format!("admin: {{ address: \"127.0.0.1:0\", token_file: \"{}\" }}\n", file.display());
    let policy = "policies: [{ name: no-drops, match: { operation: drop }, deny: {} }]\n";
    let tollgate =
        Tollgate::start(&format!("{admin}{}{policy}", mongo_config(server.address(), "")));
    let state = || tollgate.json("/clusters")[0]["endpoints"][0]["state"].clone();
    browser.open(&format!("http://{}/", tollgate.admin()));
    browser.wait_for("enter the token to change things");
    assert_eq!(browser.value("document.querySelectorAll('td button').length"), 0);
    browser.click("button", "Enter token");
    browser.type_keys("wrong-0123456789abcdef\u{e007}");
    browser.wait_for("This is not the token.");
    assert_eq!(browser.value("document.querySelectorAll('td button').length"), 0);
    browser.click("button", "Enter token");
    browser.type_keys(&format!("{TOKEN}\u{e007}"));
    browser.click("td button", "Drain");
    assert_eq!(state(), "in_use", "a dialog asks first");
    browser.click("dialog button", "Cancel");
    browser.click("td button", "Drain");
    browser.click("dialog button", "Drain it");
    browser.wait_for("Out of use");
    assert_eq!(state(), "drained");
    browser.click("td button", "Return");
    eventually("the endpoint to be back", || (state() == "in_use").then_some(()));
    browser.click("td button", "Dry run");
    let dry_run = || tollgate.json("/policies")[0]["dry_run"] == true;
    eventually("the policy to be in a dry run", || dry_run().then_some(()));
    assert_eq!(browser.console(), Vec::<String>::new());
    let kept = browser.value("JSON.stringify([localStorage, sessionStorage, document.cookie])");
    assert!(!kept.to_string().contains(TOKEN), "{kept}");
}

#[test]
fn the_last_reload_is_shown_with_what_it_has_changed() {
    let Some(browser) = Browser::start() else { return };
    let server = server();
    let tollgate = Tollgate::mongo(server.address());
    browser.open(&format!("http://{}/", tollgate.admin()));
    browser.wait_for("none since the start");
    tollgate.reload(&mongo_config(server.address(), "max_connections: 77"));
    browser.wait_for("by admin: ");
    assert!(row(&browser, "by admin: ").contains("ok"), "{}", browser.text());
    assert!(!browser.text().contains("Reload failed"));
    tollgate.write_config("listeners: { db: { <blink>: 1 } }\n");
    assert_eq!(tollgate.post("/config").0, 400);
    browser.wait_for("Reload failed");
    assert!(row(&browser, "by admin: ").contains("failed"), "{}", browser.text());
    assert!(browser.text().contains("<blink>"), "{}", browser.text());
    assert_eq!(browser.value("document.querySelectorAll('blink').length"), 0);
    assert_eq!(browser.console(), Vec::<String>::new());
}

#[test]
fn a_lost_proxy_is_shown_and_no_scheme_has_errors() {
    let Some(browser) = Browser::start() else { return };
    let server = server();
    for scheme in ["light", "dark"] {
        let tollgate = Tollgate::mongo(server.address());
        browser.prefer(scheme);
        browser.open(&format!("http://{}/", tollgate.admin()));
        browser.wait_for("Nothing: every endpoint is in use");
        let back = "getComputedStyle(document.body).backgroundColor";
        let is_dark = browser.value(back) == "rgb(17, 20, 23)";
        assert_eq!(is_dark, scheme == "dark", "{scheme}: {}", browser.value(back));
        for width in [1280, 380] {
            browser.resize(width, 800);
            let too_wide = "document.documentElement.scrollWidth > innerWidth";
            assert_eq!(browser.value(too_wide), false, "{width} pixels");
        }
        assert_eq!(browser.console(), Vec::<String>::new());
        drop(tollgate);
        browser.wait_for("No answer from the proxy since");
        // The failed requests themselves.
        browser.console();
    }
}
