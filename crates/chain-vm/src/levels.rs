//! The call graph: which calls the depth counter must see.

/// Frames of uncounted calls between two counted ones, at most.
const UNCOUNTED_CHAIN_MAX: u32 = 32;

/// Which direct calls count towards the depth.
pub(crate) struct Levels {
    component: Vec<usize>,
    height: Vec<u32>,
}

impl Levels {
    /// Strongly connected components (Tarjan 1972, without recursion) and, for each function, the
    /// longest chain of calls below it outside its own component.
    pub(crate) fn of(calls: &[Vec<usize>]) -> Self {
        let count = calls.len();
        let mut order = vec![usize::MAX; count];
        let mut low = vec![0; count];
        let mut component = vec![usize::MAX; count];
        let mut height = vec![0; count];
        let (mut clock, mut components) = (0, 0);
        let (mut stack, mut work) = (Vec::new(), Vec::new());
        for root in 0..count {
            if order[root] != usize::MAX {
                continue;
            }
            work.push((root, 0));
            while let Some((node, edge)) = work.pop() {
                if edge == 0 {
                    order[node] = clock;
                    low[node] = clock;
                    clock += 1;
                    stack.push(node);
                }
                if let Some(&callee) = calls[node].get(edge) {
                    work.push((node, edge + 1));
                    if order[callee] == usize::MAX {
                        work.push((callee, 0));
                    }
                    continue;
                }
                for &callee in &calls[node] {
                    if component[callee] == usize::MAX {
                        low[node] = low[node].min(low[callee]);
                    }
                }
                if low[node] == order[node] {
                    let start = stack
                        .iter()
                        .rposition(|member| *member == node)
                        .unwrap_or(0);
                    let members = stack.split_off(start);
                    for &member in &members {
                        component[member] = components;
                    }
                    let below = members.iter().flat_map(|member| &calls[*member]);
                    let outside = below.filter(|callee| component[**callee] != components);
                    let top = outside.map(|callee| height[*callee] + 1).max().unwrap_or(0);
                    for &member in &members {
                        height[member] = top;
                    }
                    components += 1;
                }
            }
        }
        Self { component, height }
    }

    /// Calls inside a cycle count, and one call in a long chain, so that the engine's own stack
    /// limit is out of reach however the functions are arranged.
    pub(crate) fn counted(&self, caller: usize, callee: usize) -> bool {
        self.component[caller] == self.component[callee]
            || self.height[caller] / UNCOUNTED_CHAIN_MAX
                != self.height[callee] / UNCOUNTED_CHAIN_MAX
    }
}
