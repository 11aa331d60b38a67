//! A network of the harness's own: each party in a network namespace, and between them a switch in
//! this process, which can lose and delay what one party sends to another.
//!
//! Each namespace has one TUN interface (the kernel's Documentation/networking/tuntap.rst), whose other
//! end is a descriptor here. So connections behave as they do between machines: a packet that is lost
//! is sent again by TCP in its own time, a connection to a party that is cut off hangs, and neither end
//! is told of anything. It needs no netem and no packet filter, which kernels are built without.
//!
//! Nothing has a name on the machine: namespaces and interfaces go with the last process that uses them.

mod namespace;
mod switch;

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use self::{
    namespace::Namespace,
    switch::{Effect, Switch, Table},
};

/// The addresses of all parties: seen by nobody but them.
const NET: [u8; 3] = [10, 111, 0];

/// All parties, and what is between them.
pub(super) struct Network {
    nodes: Vec<Node>,
    table: Arc<Table>,
    /// Dropped first: it uses the interfaces.
    _switch: Switch,
}

/// One party's place.
pub(super) struct Node {
    name: String,
    address: Ipv4Addr,
    namespace: Namespace,
}

/// What is done to packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Harm {
    /// They are lost.
    Cut,
    /// They come later.
    Delay(Duration),
}

impl Network {
    /// A node for each name.
    pub(super) fn new(names: &[String]) -> Self {
        let mut nodes = Vec::new();
        let mut interfaces = Vec::new();
        for (number, name) in (1..).zip(names) {
            let address = Ipv4Addr::new(NET[0], NET[1], NET[2], number);
            let (namespace, interface) = Namespace::new(address)
                .unwrap_or_else(|error| panic!("a network namespace for {name}: {error:#}"));
            interfaces.push((address, interface));
            nodes.push(Node { name: name.clone(), address, namespace });
        }
        let table = Arc::new(Table::default());
        let switch = Switch::new(interfaces, &table);
        Self { nodes, table, _switch: switch }
    }

    /// The node of this name.
    pub(super) fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name == name).expect("all nodes are made at the start")
    }

    /// Harms what goes from one to the other, for each of these pairs, until the answer is dropped.
    pub(super) fn harm(&self, pairs: &[(&Node, &Node)], harm: Harm) -> Harmed {
        let effects =
            pairs.iter().map(|(from, to)| Effect { from: from.address, to: to.address, harm });
        Harmed { id: self.table.add(effects), table: Arc::clone(&self.table) }
    }
}

impl Node {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    pub(super) fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// From now on this thread, and what it starts, is there.
    pub(super) fn enter(&self) {
        self.namespace.enter();
    }
}

/// Packets that are harmed, until this is dropped.
#[must_use]
pub(super) struct Harmed {
    id: u64,
    table: Arc<Table>,
}

impl Drop for Harmed {
    fn drop(&mut self) {
        self.table.remove(self.id);
    }
}
