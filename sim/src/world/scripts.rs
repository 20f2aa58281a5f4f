//! Scripted peers, as the world calls them.

use haggle_core::StreamId;

use super::{Happening, Lane, World};
use crate::{
    net::Role,
    node::peer_id,
    script::{Heard, Say, Talk},
};

impl World {
    /// Lets a script hear something, and does what it says.
    pub(super) fn hear(&mut self, node: u32, conn: u64, heard: Heard<'_>) {
        let Some(mut script) = self.nodes[node as usize].script.take() else { return };
        let mut orders = std::mem::take(&mut self.orders);
        script.hear(&mut Talk { now: self.now, stream: conn, orders: &mut orders, spare: &mut self.net.spare }, heard);
        let place = &mut self.nodes[node as usize];
        place.script = Some(script);
        let life = place.life;
        for order in orders.drain(..) {
            match order {
                Say::Open(peer) => {
                    let id = StreamId(self.net.conns.next_id());
                    self.open(node, Role::Script, id, peer_id(peer));
                }
                Say::Bytes(conn, bytes) => self.send(node, Role::Script, conn, bytes),
                Say::Close(conn) => self.close_conn(node, Role::Script, conn, false),
                Say::Reset(conn) => self.close_conn(node, Role::Script, conn, true),
                Say::Wake(conn, after) => {
                    self.push(self.now + after, Lane::app(node), Happening::Wake { node, life, conn });
                }
            }
        }
        self.orders = orders;
    }
}
