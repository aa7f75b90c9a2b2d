"""Extreme eigenvalues of a symmetric operator: Lanczos, and the power iteration of the paper."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lossatlas.curvature.operator import LinearOperator
from lossatlas.curvature.progress import Progress
from lossatlas.errors import UserError


@dataclass(frozen=True)
class Eigenvalues:
    """Eigenvalues of largest modulus, largest first.

    Attributes:
        values: (k,) float64, sign kept; fewer than asked for if the operator is smaller.
        residuals: (k,) float64, |H x - λ x| with |x| = 1.
        converged: (k,) bool.
        products: Hessian-vector products that were used.
    """

    values: Tensor
    residuals: Tensor
    converged: Tensor
    products: int


class Lanczos:
    """An orthonormal Krylov basis Q of a symmetric operator A and T = Q^T A Q, tridiagonal.

    Each new vector is orthogonalised twice against the whole basis (Golub and Van Loan, 2013,
    section 10.3), so that no copies of converged eigenvalues appear. Where the Krylov space is
    exhausted it goes on with a random vector. Of a repeated eigenvalue, one copy is found until
    then. The basis takes `capacity` times the memory of the parameters.

    Args:
        operator: The operator A.
        start: Start vector (P,), any length.
        capacity: Most steps.
        generator: For the random vectors after exhaustion.
        progress: Where the basis is noted after each step; a noted one is not computed again.
        note: Its name there.
    """

    def __init__(
        self,
        operator: LinearOperator,
        start: Tensor,
        capacity: int,
        generator: torch.Generator,
        *,
        progress: Progress | None = None,
        note: str = "basis",
    ) -> None:
        self.operator, self._generator = operator, generator
        self.capacity = min(capacity, operator.size)
        shape = (self.capacity, operator.size)
        self._vectors = _room(shape, operator)
        self._next = start.to(self._vectors) / torch.linalg.vector_norm(start).item()
        self._alphas: list[float] = []
        self._betas: list[float] = []  # betas[j] couples vector j to vector j + 1
        self._progress, self._note = progress or Progress(), note
        self._known = self._progress.noted(note)

    @property
    def steps(self) -> int:
        """Steps done."""
        return len(self._alphas)

    @property
    def basis(self) -> Tensor:
        """Q^T: the basis vectors as rows (steps, P)."""
        return self._vectors[: self.steps]

    @property
    def trace(self) -> float:
        """tr(Q^T A Q)."""
        return math.fsum(self._alphas)

    @property
    def finite(self) -> bool:
        """Whether every product was finite."""
        return all(map(math.isfinite, [*self._alphas, *self._betas]))

    def step(self) -> None:
        """Add one vector to the basis; one product.

        Raises:
            ValueError: If the basis is at its capacity.
        """
        if self.steps == self.capacity:
            raise ValueError(f"the basis is at its capacity of {self.capacity}")
        if self._known is not None:
            self._step_again(*self._known)
            return
        vector = self._next
        self._vectors[self.steps] = vector
        product = self.operator(vector)
        self._alphas.append(torch.dot(product, vector).item())
        product = project_out(product, self.basis)
        beta = torch.linalg.vector_norm(product).item()
        if beta <= 10 * torch.finfo(product.dtype).eps * self._size():
            beta, product = 0.0, self._random()
        self._betas.append(beta)
        norm = torch.linalg.vector_norm(product).item()
        self._next = product / norm if norm > 0 else product
        self._progress.note(
            self._note,
            {"basis": self.basis, "next": self._next, "random": self._generator.get_state()},
            {"alphas": self._alphas, "betas": self._betas},
        )

    def _step_again(self, tensors: dict[str, Tensor], values: dict[str, list[float]]) -> None:
        """Take a step that a killed job had taken."""
        step = self.steps
        self._vectors[step] = tensors["basis"][step]
        self._alphas.append(values["alphas"][step])
        self._betas.append(values["betas"][step])
        self.operator.products += 1
        if self.steps == len(values["alphas"]):
            self._next = tensors["next"].to(self._vectors)
            self._generator.set_state(tensors["random"])
            self._known = None

    def _size(self) -> float:
        return max(map(abs, [*self._alphas, *self._betas]))

    def _random(self) -> Tensor:
        draw = torch.randn(self.operator.size, generator=self._generator, dtype=torch.float64)
        return project_out(draw.to(self._vectors), self.basis)

    def ritz_vectors(self, which: Tensor) -> Tensor:
        """Return the Ritz vectors (k, P) of some Ritz values, by their places in `ritz`."""
        parts = torch.linalg.eigh(self._matrix())[1][:, which].to(self._vectors)
        return parts.T @ self.basis

    def _matrix(self) -> Tensor:
        off = torch.tensor(self._betas[:-1], dtype=torch.float64)
        matrix = torch.diag(torch.tensor(self._alphas, dtype=torch.float64))
        return matrix + torch.diag(off, 1) + torch.diag(off, -1)

    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return Ritz values (m,), their residuals (m,), weights (m,) of the start vector; float64.

        The residual is |beta_m s_mi| plus the rounding of a product; the weight is s_1i squared.
        """
        values, vectors = torch.linalg.eigh(self._matrix())
        rounding = torch.finfo(self.operator.dtype).eps * values.abs().max()
        last = 0.0 if self.steps == self.operator.size else self._betas[-1]
        residuals = last * vectors[-1].abs() + rounding
        return values, residuals, vectors[0].square()


def _room(shape: tuple[int, int], operator: LinearOperator) -> Tensor:
    """Return room for a basis.

    Raises:
        UserError: If there is none.
    """
    try:
        return torch.empty(shape, dtype=operator.dtype, device=operator.device)
    except (MemoryError, RuntimeError):  # torch's own errors are of the latter
        size = shape[0] * shape[1] * operator.dtype.itemsize / 2**30
        what = f"out of memory: a basis of {shape[0]} vectors takes {size:.1f} GiB"
        fix = "fewer 'iterations' and 'probes', or a pattern of 'parameters'"
        raise UserError(what, where="Hessian", fix=fix) from None


class Deflated:
    """An operator without some of its eigenvectors: (I - V V^T) A (I - V V^T)."""

    def __init__(self, operator: LinearOperator, vectors: Tensor) -> None:
        self._operator, self._vectors = operator, vectors
        self.size, self.dtype, self.device = operator.size, operator.dtype, operator.device
        self.products = 0

    def __call__(self, vector: Tensor) -> Tensor:
        """Return the product with a vector (size,)."""
        self.products += 1
        return project_out(self._operator(project_out(vector, self._vectors)), self._vectors)


def project_out(vector: Tensor, basis: Tensor) -> Tensor:
    """Return (I - Q Q^T) v for orthonormal rows of `basis` (m, P), done twice for rounding."""
    for _ in range(2):
        vector = vector - basis.T @ (basis @ vector)
    return vector


def gaussian(operator: LinearOperator, generator: torch.Generator) -> Tensor:
    """Return a standard normal vector (P,)."""
    draw = torch.randn(operator.size, generator=generator, dtype=torch.float32)
    return draw.to(operator.device, operator.dtype)


def rademacher(operator: LinearOperator, generator: torch.Generator) -> Tensor:
    """Return a vector (P,) of independent signs."""
    draw = torch.randint(2, (operator.size,), generator=generator, dtype=torch.int8)
    return draw.to(operator.device, operator.dtype).mul_(2).sub_(1)


def top_eigenvalues(
    operator: LinearOperator,
    count: int = 1,
    *,
    iterations: int = 60,
    tolerance: float = 1e-3,
    generator: torch.Generator,
    progress: Progress | None = None,
) -> Eigenvalues:
    """Return the eigenvalues of largest modulus by Lanczos with full reorthogonalisation.

    It stops when each has a residual of at most `tolerance` times its modulus.

    Args:
        operator: The operator.
        count: How many.
        iterations: Most products.
        tolerance: Relative residual.
        generator: For the start vector.
        progress: Where it notes its steps.
    """
    start = gaussian(operator, generator)
    lanczos = Lanczos(operator, start, iterations, generator, progress=progress)
    found = run_lanczos(lanczos, count, iterations, tolerance)
    return with_copies(lanczos, found, iterations, tolerance, generator, progress)


def with_copies(
    lanczos: Lanczos,
    found: Eigenvalues,
    iterations: int,
    tolerance: float,
    generator: torch.Generator,
    progress: Progress | None = None,
) -> Eigenvalues:
    """Return eigenvalues with the further copies of repeated ones, of which Lanczos finds one each.

    Runs that start orthogonally to all that were found tell whether one of larger modulus than the
    last is left, until none is. One eigenvalue needs no such run: a copy of it has its value.

    Args:
        lanczos: The basis from which they come.
        found: The eigenvalues of `run_lanczos`.
        iterations: Most products of each further run.
        tolerance: Relative residual.
        generator: For the start vectors.
        progress: Where the runs note their steps.
    """
    count, operator = len(found.values), lanczos.operator
    if count < 2 or not bool(found.converged.all()) or lanczos.steps == operator.size:
        return found
    values, residuals, _ = lanczos.ritz()
    order = values.abs().argsort(descending=True)[:count]
    values, residuals, vectors = values[order], residuals[order], lanczos.ritz_vectors(order)
    products, flags = found.products, found.converged
    for run in range(min(count, operator.size - count)):
        rest = Deflated(operator, vectors)
        start = project_out(gaussian(operator, generator), vectors)
        room = min(iterations, operator.size - len(vectors))
        again = Lanczos(rest, start, room, generator, progress=progress, note=f"copies-{run}")
        other = run_lanczos(again, 1, room, tolerance)
        products += other.products
        if not bool(other.values.abs() > values[-1].abs() * (1 + tolerance)):
            break
        place = again.ritz()[0].abs().argmax()[None]
        values = torch.cat([values, other.values])
        residuals = torch.cat([residuals, other.residuals])
        flags = torch.cat([flags, other.converged])
        vectors = torch.cat([vectors, again.ritz_vectors(place)])
        order = values.abs().argsort(descending=True, stable=True)[:count]
        # what falls out of the first `count` stays in `vectors`: it need not be found again
        values, residuals, flags = values[order], residuals[order], flags[order]
    return Eigenvalues(values, residuals, flags, products)


def run_lanczos(lanczos: Lanczos, count: int, iterations: int, tolerance: float) -> Eigenvalues:
    """Step until `count` eigenvalues converge; the basis can be used further, as by `trace`."""
    while True:
        lanczos.step()
        if not lanczos.finite:
            nothing = torch.full((count,), math.nan, dtype=torch.float64)
            failed = torch.zeros(count, dtype=torch.bool)
            return Eigenvalues(nothing, nothing, failed, lanczos.steps)
        values, residuals, _ = lanczos.ritz()
        order = values.abs().argsort(descending=True)[:count]
        values, residuals = values[order], residuals[order]
        converged = residuals <= tolerance * values.abs()
        complete = len(values) == count and bool(converged.all())
        if complete or lanczos.steps == min(iterations, lanczos.capacity):
            return Eigenvalues(values, residuals, converged, lanczos.steps)


def power_iteration(
    operator: LinearOperator,
    count: int = 1,
    *,
    iterations: int = 100,
    tolerance: float = 1e-3,
    generator: torch.Generator,
    progress: Progress | None = None,
) -> Eigenvalues:
    """Return eigenvalues as the code of Yang et al. (2021) does, by PyHessian's power iteration.

    From a Gaussian start, λ = v · Hv until |λ_old - λ| < tolerance (|λ_old| + 1e-6); then the
    *previous* estimate λ_old is the result. Vectors are divided by their norm plus 1e-6. Further
    values are found orthogonally to the vectors before, no more than the operator has. That code
    does not say when it ran out of iterations; here `converged` does, and the residual is that of
    the last product.

    Args:
        operator: The operator.
        count: How many.
        iterations: Most products for each.
        tolerance: Relative change at which it stops.
        generator: For the start vectors.
        progress: Where it notes its steps.
    """
    progress = progress or Progress()
    tensors, noted = progress.noted("power") or ({}, {})
    vectors = [vector.to(operator.device) for vector in tensors.get("vectors", ())]
    rows: list[tuple[float, float, bool, int]] = noted.get("rows", [])
    before = operator.products
    for rank in range(min(count, operator.size)):
        start = gaussian(operator, generator)
        if rank == len(rows):
            vectors.append(_normalised(start))
            rows.append((math.nan, math.nan, False, 0))
        value, residual, converged, used = rows[rank]
        operator.products += used
        while used < iterations and not converged:
            vector = vectors[rank]
            for other in vectors[:rank]:
                vector = vector - torch.dot(vector, other) * other
            vector = _normalised(vector)
            product = operator(vector)
            estimate = torch.dot(product, vector).item()
            residual = torch.linalg.vector_norm(product - estimate * vector).item()
            converged = abs(value - estimate) / (abs(value) + 1e-6) < tolerance
            value = value if converged else estimate
            used += 1
            vectors[rank], rows[rank] = _normalised(product), (value, residual, converged, used)
            progress.note("power", {"vectors": vectors}, {"rows": rows})
    values, residuals, flags, _ = zip(*rows, strict=True)
    return Eigenvalues(
        torch.tensor(values, dtype=torch.float64),
        torch.tensor(residuals, dtype=torch.float64),
        torch.tensor(flags),
        operator.products - before,
    )


def _normalised(vector: Tensor) -> Tensor:
    return vector / (torch.linalg.vector_norm(vector).item() + 1e-6)
