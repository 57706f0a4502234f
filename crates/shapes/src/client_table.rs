//! The clients that a worker serves: an address with the name of an application.

use crate::Call;
use foldhash::HashMap;
use operation::{LookupRun, OUTDATED_DRIVER};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

/// How many clients are remembered.
const MAX_CLIENTS: usize = 1000;

/// An application at an address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) peer: IpAddr,
    /// Empty if the application has no name.
    pub(crate) app: Box<str>,
    /// Its driver, with the version.
    pub(crate) driver: Box<str>,
    /// Why the driver is out of support, if it is.
    pub(crate) outdated: Option<Box<str>>,
}

/// The clients of a worker. A connection keeps the number of its client.
#[derive(Debug)]
pub(crate) struct ClientTable {
    clients: Vec<(Arc<Client>, LookupRun)>,
    numbers: HashMap<(IpAddr, Box<str>), u32>,
    /// The number of the first client here: older ones are forgotten.
    first: u32,
}

impl Default for ClientTable {
    fn default() -> Self {
        Self { clients: Vec::new(), numbers: HashMap::default(), first: 1 }
    }
}

impl ClientTable {
    /// The client with this number, and the run of its lookups over all connections; `None` if it is
    /// forgotten.
    pub(crate) fn get(&mut self, number: u32) -> Option<&mut (Arc<Client>, LookupRun)> {
        self.clients.get_mut(number.checked_sub(self.first)? as usize)
    }

    /// The number of the client that has sent this operation, and whether the client is new.
    pub(crate) fn find(&mut self, call: &Call<'_>) -> (u32, bool) {
        let peer = call.attributes.peer().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let app: Box<str> = call.attribute("app").unwrap_or_default().into();
        if let Some(number) = self.numbers.get(&(peer, app.clone())) {
            return (*number, false);
        }
        if self.clients.len() >= MAX_CLIENTS {
            self.first += self.clients.len() as u32;
            self.clients.clear();
            self.numbers.clear();
        }
        let number = self.first + self.clients.len() as u32;
        self.numbers.insert((peer, app.clone()), number);
        let driver = call.attribute("driver").unwrap_or_default().into();
        let outdated = call.attribute(OUTDATED_DRIVER).map(Into::into);
        let client = Client { peer, app, driver, outdated };
        self.clients.push((Arc::new(client), LookupRun::default()));
        (number, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Sent, call};

    #[test]
    fn a_full_table_forgets_clients_and_never_confuses_them() {
        let mut table = ClientTable::default();
        let sent = Sent::new("a");
        let (first, is_new) = table.find(&call(&sent, "find"));
        assert!(is_new);
        assert_eq!(table.find(&call(&sent, "find")), (first, false));
        for number in 0..MAX_CLIENTS {
            let other = Sent::new(&format!("app-{number}"));
            table.find(&call(&other, "find"));
        }
        assert!(table.get(first).is_none());
        let (again, is_new) = table.find(&call(&sent, "find"));
        assert!(is_new && again > first);
        assert_eq!(&*table.get(again).unwrap().0.app, "a");
    }
}
