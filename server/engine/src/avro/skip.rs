//! Passing over what the reader does not want, along the writer's graph. Values of recursive types
//! are passed over too, to a depth.

use super::MAX_DEPTH;
use super::fault::Fault;
use super::graph::{Graph, NodeId, Shape};
use super::wire::Cursor;

/// Passes over one value.
pub(super) fn skip(graph: &Graph, id: NodeId, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
    skip_within(graph, id, cursor, MAX_DEPTH)
}

fn skip_within(graph: &Graph, id: NodeId, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Fault> {
    let deeper = || depth.checked_sub(1).ok_or(Fault::TooDeep);
    let node = graph.node(id);
    // Also: records of records of nothing could take exponential time for no bytes.
    if node.zero_width {
        return Ok(());
    }
    match &node.shape {
        Shape::Null => {}
        Shape::Boolean => {
            cursor.boolean()?;
        }
        Shape::Int => {
            cursor.int()?;
        }
        Shape::Long => {
            cursor.long()?;
        }
        Shape::Float => {
            cursor.take(4)?;
        }
        Shape::Double => {
            cursor.take(8)?;
        }
        Shape::Bytes => {
            cursor.bytes()?;
        }
        Shape::String => {
            cursor.text()?;
        }
        Shape::Fixed(size) => {
            cursor.take(*size)?;
        }
        Shape::Enum { symbols, .. } => {
            usize::try_from(cursor.long()?).ok().filter(|i| *i < symbols.len()).ok_or(Fault::Symbol)?;
        }
        Shape::Record(fields) => {
            let depth = deeper()?;
            for field in fields {
                skip_within(graph, field.node, cursor, depth)?;
            }
        }
        Shape::Array(item) => {
            let (depth, zero_width) = (deeper()?, graph.node(*item).zero_width);
            loop {
                let count = cursor.block(zero_width)?;
                if count == 0 {
                    break;
                }
                for _ in 0..count {
                    skip_within(graph, *item, cursor, depth)?;
                }
            }
        }
        Shape::Map(value) => {
            let depth = deeper()?;
            loop {
                let count = cursor.block(false)?;
                if count == 0 {
                    break;
                }
                for _ in 0..count {
                    cursor.text()?;
                    skip_within(graph, *value, cursor, depth)?;
                }
            }
        }
        Shape::Union(branches) => {
            let index = usize::try_from(cursor.long()?).map_err(|_| Fault::Branch)?;
            let branch = branches.get(index).ok_or(Fault::Branch)?;
            skip_within(graph, *branch, cursor, depth)?;
        }
    }
    Ok(())
}
