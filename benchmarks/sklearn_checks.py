"""All of scikit-learn's checks of an estimator, for FlowDensity: .venv/bin/python benchmarks/sklearn_checks.py."""

import warnings

from sklearn.utils.estimator_checks import check_estimator

from pushforward.sklearn import FlowDensity


def main() -> None:
    warnings.simplefilter("ignore")
    estimator = FlowDensity(flow="linear", max_epochs=1, random_state=0)
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    for result in results:
        if result["status"] != "passed":
            print(result["check_name"], result["status"], result["exception"])
    print(f"{sum(result['status'] == 'passed' for result in results)} of {len(results)} checks passed")


if __name__ == "__main__":
    main()
