"""What optimizers that precondition layer by layer share (NG+, K-FAC): base class, curvature."""
