"""The published networks as plain loops over atoms and edges, with weights by their released names.

They are written from the papers and from the facts of the released programs, and are slow. Weights are tensors by name,
atoms and edges are lists of vectors, and every function returns the predictions of all graphs.
"""

from __future__ import annotations

import math

import torch


def linear(weights, name, x):
    y = weights[f"{name}.weight"] @ x
    return y + weights[f"{name}.bias"] if f"{name}.bias" in weights else y


def normed(weights, name, x):
    """Batch normalisation in evaluation if there are running statistics, otherwise layer normalisation."""
    if f"{name}.running_mean" in weights:
        mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
    else:
        mean = sum(x) / len(x)
        variance = sum((value - mean) ** 2 for value in x) / len(x)
    return weights[f"{name}.weight"] * (x - mean) / (variance + 1e-5).sqrt() + weights[f"{name}.bias"]


def sigmoid(x):
    return 1 / (1 + (-x).exp())


def silu(x):
    return x * sigmoid(x)


def softplus(x):
    return torch.log1p(x.exp())


def relu(x):
    return torch.stack([max(value, torch.zeros_like(value)) for value in x])


def gaussians(x, start, stop, number, width):
    """``width`` None: the square root of the spacing."""
    spacing = (stop - start) / (number - 1)
    width = math.sqrt(spacing) if width is None else width
    return torch.stack([(-(((x - (start + n * spacing)) / width) ** 2)).exp() for n in range(number)])


def means(atoms, graph_of_atom, graphs):
    out = []
    for graph in range(graphs):
        own = [x for x, of in zip(atoms, graph_of_atom, strict=True) if of == graph]
        out.append(sum(own) / len(own))
    return out


# ---- Matformer ----


def matformer(weights, batch, heads):
    """Each edge (u, v) tells v about u, as in the released program."""
    count = weights["rbf.1.weight"].shape[1]
    x = [linear(weights, "atom_embedding", row) for row in batch.x]
    edges = []
    for vector in batch.edge_attr:
        raised = linear(weights, "rbf.1", gaussians(vector.norm(), 0.0, 8.0, count, None))
        edges.append(linear(weights, "rbf.3", softplus(raised)))
    layers = len({name.split(".")[1] for name in weights if name.startswith("att_layers.")})
    for layer in range(layers):
        x = matformer_layer(weights, f"att_layers.{layer}", x, batch.edge_index, edges, heads)
    pooled = means(x, batch.batch.tolist(), batch.num_graphs)
    return torch.stack([linear(weights, "fc_out", silu(linear(weights, "fc.0", row))) for row in pooled])


def matformer_layer(weights, layer, x, edge_index, edges, heads):
    channels = len(x[0])
    heard = [[torch.zeros(channels, dtype=torch.float64) for _ in range(heads)] for _ in x]
    for n, (u, v) in enumerate(edge_index.T.tolist()):
        for head in range(heads):
            own = slice(head * channels, (head + 1) * channels)
            query = linear(weights, f"{layer}.lin_query", x[v])[own]
            edge = linear(weights, f"{layer}.lin_edge", edges[n])[own]
            keys = torch.cat([linear(weights, f"{layer}.lin_key", x[atom])[own] for atom in (v, u)] + [edge])
            values = torch.cat([linear(weights, f"{layer}.lin_value", x[atom])[own] for atom in (v, u)] + [edge])
            score = torch.cat([query, query, query]) * keys / math.sqrt(3 * channels)
            gate = sigmoid(normed(weights, f"{layer}.layer_norm", score))
            message = linear(weights, f"{layer}.msg_layer.0", linear(weights, f"{layer}.lin_msg_update", values) * gate)
            heard[v][head] = heard[v][head] + normed(weights, f"{layer}.msg_layer.1", message)
    out = []
    for atom, row in enumerate(x):
        merged = linear(weights, f"{layer}.lin_concate", torch.cat(heard[atom]))
        out.append(silu(normed(weights, f"{layer}.bn", merged)) + linear(weights, f"{layer}.lin_skip", row))
    return out


# ---- PotNet ----


def potnet(weights, batch, potentials=None):
    """Without the weights of potentials, in the euclidean form. Each edge (u, v) tells v about u."""
    count = weights["edge_embedding.1.weight"].shape[1]
    spacing = 8.0 / (count - 1)
    x = [linear(weights, "atom_embedding", row) for row in batch.x]
    pairs, edges = batch.edge_index.T.tolist(), []
    for length in batch.edge_attr:
        of = length if potentials is None else -0.75 / length
        edges.append(silu(linear(weights, "edge_embedding.1", gaussians(of, -4.0, 4.0, count, spacing))))
    if potentials is not None:
        number = weights["infinite_linear.weight"].shape[1]
        pairs = pairs + batch.inf_edge_index.T.tolist()
        for sums in batch.inf_edge_attr:
            energy = sum(weight * value for weight, value in zip(potentials, sums, strict=True))
            centres = [-4.0 + 8.0 * n / (number - 1) for n in range(number)]
            basis = torch.stack([(1 + ((energy - c) / (8.0 / (number - 1))) ** 2).sqrt() for c in centres])
            edges.append(normed(weights, "infinite_bn", softplus(linear(weights, "infinite_linear", basis))))
    layers = len({name.split(".")[1] for name in weights if name.startswith("conv_layers.")})
    for layer in range(layers):
        x = potnet_layer(weights, f"conv_layers.{layer}", x, pairs, edges)
    pooled = means(x, batch.batch.tolist(), batch.num_graphs)
    log_2 = torch.tensor(2.0).log().item()  # in single precision, as in PyG's ShiftedSoftplus
    hidden = [softplus(linear(weights, "fc.0", row)) - log_2 for row in pooled]
    return torch.stack([linear(weights, "fc_out", row) for row in hidden])


def potnet_layer(weights, layer, x, pairs, edges):
    heard = [torch.zeros_like(row) for row in x]
    for n, (u, v) in enumerate(pairs):
        features = torch.cat([x[v], x[u], edges[n]])
        of = {
            name: linear(weights, f"{layer}.{name}.2", silu(linear(weights, f"{layer}.{name}.0", features)))
            for name in ("nonlinear_full", "nonlinear")
        }
        gate = sigmoid(normed(weights, f"{layer}.bn_interaction", of["nonlinear_full"]))
        heard[v] = heard[v] + gate * of["nonlinear"]
    return [relu(row + normed(weights, f"{layer}.bn", total)) for row, total in zip(x, heard, strict=True)]


# ---- ALIGNN ----


def alignn(weights, batch):
    """Each edge (u, v) tells v about u, and each angle (a, b) tells the edge b about the edge a."""
    x = [embedded(weights, "atom_embedding", row) for row in batch.atom_features]
    y, z = [], []
    for values, out, name, limits in (
        ([vector.norm() for vector in batch.r], y, "edge_embedding", (0.0, 8.0)),
        (list(batch.h), z, "angle_embedding", (-1.0, 1.0)),
    ):
        count = weights[f"{name}.1.layer.0.weight"].shape[1]
        for value in values:
            inner = embedded(weights, f"{name}.1", gaussians(value, *limits, count, None))
            out.append(embedded(weights, f"{name}.2", inner))
    edges, angles = batch.edge_index.T.tolist(), batch.line_graph.T.tolist()
    for layer in range(len({name.split(".")[1] for name in weights if name.startswith("alignn_layers.")})):
        x, y = gated_convolution(weights, f"alignn_layers.{layer}.node_update", x, edges, y)
        y, z = gated_convolution(weights, f"alignn_layers.{layer}.edge_update", y, angles, z)
    for layer in range(len({name.split(".")[1] for name in weights if name.startswith("gcn_layers.")})):
        x, y = gated_convolution(weights, f"gcn_layers.{layer}", x, edges, y)
    pooled = means(x, batch.batch.tolist(), batch.num_graphs)
    return torch.stack([linear(weights, "fc", row) for row in pooled])


def embedded(weights, name, x):
    return silu(normed(weights, f"{name}.layer.1", linear(weights, f"{name}.layer.0", x)))


def gated_convolution(weights, layer, x, pairs, edges):
    total, gates = [torch.zeros_like(row) for row in x], [torch.zeros_like(row) for row in x]
    new_edges = []
    for n, (u, v) in enumerate(pairs):
        mixed = linear(weights, f"{layer}.src_gate", x[u]) + linear(weights, f"{layer}.dst_gate", x[v])
        mixed = mixed + linear(weights, f"{layer}.edge_gate", edges[n])
        total[v] = total[v] + sigmoid(mixed) * linear(weights, f"{layer}.dst_update", x[u])
        gates[v] = gates[v] + sigmoid(mixed)
        new_edges.append(edges[n] + silu(normed(weights, f"{layer}.bn_edges", mixed)))
    new_x = []
    for node, row in enumerate(x):
        heard = linear(weights, f"{layer}.src_update", row) + total[node] / (gates[node] + 1e-6)
        new_x.append(row + silu(normed(weights, f"{layer}.bn_nodes", heard)))
    return new_x, new_edges


# ---- CGCNN ----


def cgcnn(weights, atoms, table, neighbors, graph_of_atom, graphs):
    """Of the published arrays: ``atom_fea``, ``nbr_fea`` and ``nbr_fea_idx``; two outputs are logits."""
    x = [linear(weights, "embedding", row) for row in atoms]
    for layer in range(len({name.split(".")[1] for name in weights if name.startswith("convs.")})):
        name, out = f"convs.{layer}", []
        for atom, row in enumerate(x):
            heard = torch.zeros_like(row)
            for place, neighbor in enumerate(neighbors[atom].tolist()):
                gates = linear(weights, f"{name}.fc_full", torch.cat([row, x[neighbor], table[atom, place]]))
                gates = normed(weights, f"{name}.bn1", gates)
                heard = heard + sigmoid(gates[: len(row)]) * softplus(gates[len(row) :])
            out.append(softplus(row + normed(weights, f"{name}.bn2", heard)))
        x = out
    found = []
    for row in means(x, graph_of_atom.tolist(), graphs):
        hidden = softplus(linear(weights, "conv_to_fc", softplus(row)))
        for layer in range(len({name.split(".")[1] for name in weights if name.startswith("fcs.")})):
            hidden = softplus(linear(weights, f"fcs.{layer}", hidden))
        found.append(linear(weights, "fc_out", hidden))
    return torch.stack(found)
