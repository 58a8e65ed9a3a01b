//! What a node's process is told on its standard input: one order a line, each answered by one line.

use std::fmt;
use std::str::FromStr;

use cairn_kv::seam::NodeId;

/// Which way frames are dropped, as the node that drops them sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What a peer sends.
    In,
    /// What is sent to a peer.
    Out,
    /// Both.
    Both,
}

impl Direction {
    /// Whether nothing arrives.
    pub fn is_in(self) -> bool {
        self != Direction::Out
    }

    /// Whether nothing leaves.
    pub fn is_out(self) -> bool {
        self != Direction::In
    }
}

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The wall clock is off by so many microseconds.
    Skew(i64),
    /// The disk hangs: what is written or synced waits.
    Hang,
    /// The disk goes on.
    Unhang,
    /// Frames between this node and a peer are dropped.
    Cut(NodeId, Direction),
    /// No frames are dropped.
    Heal,
    /// Asks for the [`Status`].
    Status,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Order::Skew(micros) => write!(f, "skew {micros}"),
            Order::Hang => f.write_str("hang"),
            Order::Unhang => f.write_str("unhang"),
            Order::Cut(node, Direction::In) => write!(f, "cut {node} in"),
            Order::Cut(node, Direction::Out) => write!(f, "cut {node} out"),
            Order::Cut(node, Direction::Both) => write!(f, "cut {node} both"),
            Order::Heal => f.write_str("heal"),
            Order::Status => f.write_str("status"),
        }
    }
}

impl FromStr for Order {
    type Err = String;

    fn from_str(line: &str) -> Result<Order, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let order = match words[..] {
            ["skew", micros] => micros.parse().ok().map(Order::Skew),
            ["hang"] => Some(Order::Hang),
            ["unhang"] => Some(Order::Unhang),
            ["cut", node, direction] => {
                let direction = match direction {
                    "in" => Some(Direction::In),
                    "out" => Some(Direction::Out),
                    "both" => Some(Direction::Both),
                    _ => None,
                };
                direction.zip(node.parse().ok()).map(|(direction, node)| Order::Cut(node, direction))
            }
            ["heal"] => Some(Order::Heal),
            ["status"] => Some(Order::Status),
            _ => None,
        };
        order.ok_or_else(|| format!("not an order: {line:?}"))
    }
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its number in the cluster, 0 before it has one.
    pub node: NodeId,
    /// Whether it has the lease of the range.
    pub has_lease: bool,
    /// Voters of the range, as far as it knows; 0 where it knows of none.
    pub voters: usize,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.node, self.has_lease, self.voters)
    }
}

impl FromStr for Status {
    type Err = String;

    fn from_str(line: &str) -> Result<Status, String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let status = match words[..] {
            [node, has_lease, voters] => (|| {
                Some(Status {
                    node: node.parse().ok()?,
                    has_lease: has_lease.parse().ok()?,
                    voters: voters.parse().ok()?,
                })
            })(),
            _ => None,
        };
        status.ok_or_else(|| format!("not a status: {line:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let orders = [
            Order::Skew(-80_000),
            Order::Hang,
            Order::Unhang,
            Order::Cut(3, Direction::In),
            Order::Cut(1, Direction::Out),
            Order::Cut(2, Direction::Both),
            Order::Heal,
            Order::Status,
        ];
        for order in orders {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
        let status = Status { node: 2, has_lease: true, voters: 3 };
        assert_eq!(status.to_string().parse(), Ok(status));
        for line in ["", "skew", "skew much", "cut 2", "cut 2 up", "cut x in", "hang now"] {
            assert!(line.parse::<Order>().is_err(), "{line:?}");
        }
    }
}
